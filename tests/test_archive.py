"""Conversations packed and opened again; damaged and hostile archives are refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nextgpt import archive
from nextgpt.archive import open_saved, pack
from nextgpt.media import Image
from nextgpt.messages import Conversation

PIXELS = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


def talk() -> Conversation:
    picture = Image(PIXELS, caption="a cat", seed=7)
    return Conversation().user("Draw a cat.").assistant("Here it is.", picture)


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_what_is_packed_is_opened_as_it_was(tmp_path: Path) -> None:
    path = pack(talk(), tmp_path / "talk.zip")
    again = open_saved(path, tmp_path / "opened")
    assert [message.role for message in again.messages] == ["user", "assistant"]
    [picture] = again.messages[1].images
    assert (picture.caption, picture.seed) == ("a cat", 7)
    np.testing.assert_array_equal(np.asarray(picture.pil), PIXELS)


def test_one_message_is_packed_alone(tmp_path: Path) -> None:
    path = pack(talk().messages[1], tmp_path / "reply.zip")
    assert zipfile.ZipFile(path).namelist() == ["image-1.png", "message.json"]


def test_a_folder_and_its_json_are_opened_too(tmp_path: Path) -> None:
    saved = talk().save(tmp_path / "talk")
    for path in (saved, saved.parent):
        assert len(open_saved(path, tmp_path / "unused").messages) == 2
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "a/b.png", "..\\outside.png"])
def test_no_file_leaves_the_folder(tmp_path: Path, name: str) -> None:
    content = {"conversation.json": json.dumps({"messages": []}), name: "x"}
    path = zipped(tmp_path / "bad.zip", content)
    with pytest.raises(ValueError, match="is no file name"):
        open_saved(path, tmp_path / "inner" / "opened")
    assert [p.name for p in tmp_path.rglob("*")] == ["bad.zip"], "nothing is half unpacked"


def test_archives_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"conversation.json": json.dumps({"messages": []}), "a.png": "x" * 1000}
    path = zipped(tmp_path / "large.zip", content)
    monkeypatch.setattr(archive, "MAX_BYTES", 500)
    with pytest.raises(ValueError, match="large.zip: holds .* bytes unpacked, more than 500"):
        open_saved(path, tmp_path / "opened")
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    with pytest.raises(ValueError, match="holds 2 files, more than 1"):
        open_saved(path, tmp_path / "opened")
    assert not (tmp_path / "opened").exists()


def test_what_is_no_saved_conversation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.zip: no such file"):
        open_saved(tmp_path / "nowhere.zip", tmp_path)
    other = zipped(tmp_path / "other.zip", {"readme.txt": "hello"})
    with pytest.raises(ValueError, match=r"other.zip: holds no conversation.json"):
        open_saved(other, tmp_path / "opened")
    torn = tmp_path / "torn.zip"
    torn.write_bytes(pack(talk(), tmp_path / "talk.zip").read_bytes()[:-200])
    with pytest.raises(ValueError, match="torn.zip"):
        open_saved(torn, tmp_path / "opened")


@pytest.mark.parametrize(
    ("place", "value"),
    [(6, b"\x01"), (8, b"\x63")],
    ids=["encrypted", "packed in a way nobody knows"],
)
def test_an_archive_that_cannot_be_unpacked_is_named(
    tmp_path: Path, place: int, value: bytes
) -> None:
    path = zipped(tmp_path / "odd.zip", {"conversation.json": json.dumps({"messages": []})})
    data = bytearray(path.read_bytes())
    # The same field stands in the file's own header and in the table at the end.
    for start in (0, data.index(b"PK\x01\x02") + 2):
        data[start + place : start + place + 1] = value
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="odd.zip: cannot be unpacked"):
        open_saved(path, tmp_path / "opened")
