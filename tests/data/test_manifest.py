"""Manifests: what is written is read; a bad line is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from nextgpt.data.manifest import Item, read_manifest, write_manifest

ITEM = Item(
    id="train-00000",
    modality="image",
    path="pictures/a.png",
    caption="a dog on a blue background",
    concept="dog",
    attributes={"background": "blue", "count": 1, "style": None},
    source="npm:a@1",
    licence="MIT",
    split="train",
)


def test_items_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    write_manifest(path, [ITEM, ITEM])
    assert read_manifest(path) == [ITEM, ITEM]
    assert [file.name for file in path.parent.iterdir()] == ["manifest.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: expected a JSON object, found list"),
        (json.dumps({"id": "x"}), r"line 2: missing keys \['attributes'.*unknown keys \[\]"),
        (json.dumps({**asdict(ITEM), "colour": "red"}), r"line 2: .*unknown keys \['colour'\]"),
        (json.dumps({**asdict(ITEM), "attributes": "red"}), "line 2: attributes should be dict"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [ITEM])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=f"manifest.jsonl, {message}"):
        read_manifest(path)


def test_a_missing_manifest_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nextgpt world build"):
        read_manifest(tmp_path / "manifest.jsonl")
