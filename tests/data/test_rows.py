"""Manifests of conversations: what is written is read; a bad line is named by its key."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_chain import medium

from nextgpt.data.formats import FORMATS
from nextgpt.data.json_lines import MAX_LINE_BYTES
from nextgpt.data.requests import read_requests
from nextgpt.data.rows import MESSAGE_KEYS, Row, read_rows, write_rows
from nextgpt.messages import PART_KEYS, Conversation

PICTURE = {
    "type": "image",
    "path": "media/dog.png",
    "caption": "a dog",
    "conditioning": "npy/dog.png.npy",
    "extra": {"data_source": "flickr"},
}
ROW = Row(
    id="a/1",
    messages=[
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Line one\u2028two"}, PICTURE],
            "extra": {"input_modality": "image"},
        },
        {"role": "assistant", "content": "a dog"},
    ],
    source="test",
    licence="MIT",
    split="validation",
    extra={"width": 256, "tags": ["ü"]},
)


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    bare = Row("b", [{"role": "user", "content": "Hi"}])
    write_rows(path, [ROW, bare])
    assert [row for _, row in read_rows(path)] == [ROW, bare]
    assert [where for where, _ in read_rows(path)] == [f"{path}, line 1", f"{path}, line 2"]
    assert [file.name for file in path.parent.iterdir()] == ["manifest.jsonl"]


def test_a_row_is_a_conversation_whose_media_may_come_later(tmp_path: Path) -> None:
    conversation = ROW.conversation(tmp_path)
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant"]
    (picture,) = conversation.messages[1].images
    assert picture.caption == "a dog"
    medium("image").save(tmp_path / "media" / "dog.png")
    assert picture.size == (32, 32)


def test_a_saved_conversation_is_a_row_and_a_row_is_a_request(tmp_path: Path) -> None:
    saved = Conversation().user("Look:", medium("image")).assistant("A dog.").to_json(tmp_path)
    path = tmp_path / "manifest.jsonl"
    write_rows(path, [Row("1", saved["messages"])])
    ((_, row),) = read_rows(path)
    ((_, request),) = read_requests(path)
    parts = [type(part).__name__ for part in request.messages[0].parts]
    assert parts == [type(part).__name__ for part in row.conversation(tmp_path).messages[0].parts]


def test_what_fails_midway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write_rows(path, [ROW])

    def rows() -> Any:
        yield ROW
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_rows(path, rows())
    assert [row for _, row in read_rows(path)] == [ROW]
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.jsonl"]


def part(**changes: Any) -> dict[str, Any]:
    """A row whose only part has other values; None takes a key away."""
    picture = {key: value for key, value in (PICTURE | changes).items() if value is not None}
    return {"id": "1", "messages": [{"role": "user", "content": [picture]}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "expected a JSON object, found list"),
        ({"id": "1"}, "messages: None is no list"),
        ({"messages": []}, "id: None is no string"),
        ({"id": "", "messages": [{"role": "user", "content": ""}]}, "id or messages are empty"),
        ({"id": "1", "messages": []}, "id or messages are empty"),
        ({"id": 5, "messages": []}, "id: 5 is no string"),
        ({**part(), "colour": "red"}, "unknown key 'colour'; put it into extra"),
        ({**part(), "split": None}, "split: None is no string"),
        ({**part(), "extra": []}, r"extra: \[\] is no object"),
        ({"id": "1", "messages": [{"role": "robot", "content": ""}]}, r"\[0\].role: 'robot'"),
        ({"id": "1", "messages": [{"role": "user", "content": "", "name": "x"}]},
         r"messages\[0\]: unknown key 'name'"),
        (part(type="smell"), r"content\[0\].type: 'smell' is unknown"),
        (part(path=None), r"content\[0\].path: None"),
        (part(path=""), r"content\[0\].path: '' is no file name"),
        (part(path="a\0b"), "is no file name"),
        (part(path="../dog.png"), r"content\[0\].path: '../dog.png' is outside"),
        (part(path="a/../../dog.png"), "is outside"),
        (part(path="/dog.png"), "is outside"),
        (part(path="file:///dog.png"), "is an address; download"),
        (part(caption=3), r"content\[0\].caption: 3"),
        (part(conditioning="../a.npy"), r"messages\[0\], conditioning: '../a.npy' is outside"),
        (part(conditioning=3), r"messages\[0\]: conditioning 3 is no string"),
        (part(extra="x"), r"messages\[0\]: extra 'x' is no object"),
        (part(colour="red"), "unknown key 'colour'"),
        ({"id": "1", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "a", "path": "b.png"}]}]}, r"\[0\]: unknown key 'path'"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_is_named(tmp_path: Path, data: Any, message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    write_rows(path, [ROW])
    line = data if isinstance(data, str) else json.dumps(data)
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(ValueError, match=f"manifest.jsonl, line 3: .*{message}"):
        list(read_rows(path))


@pytest.mark.parametrize("name", ["a b.png", "ünï/犬.png", "a..b.png", "...png", "#?%.png"])
def test_names_of_any_kind_are_taken(tmp_path: Path, name: str) -> None:
    row = Row.from_json(part(path=name))
    medium("image").save(tmp_path / name)
    (message,) = row.conversation(tmp_path).messages
    assert message.images[0].size == (32, 32)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    outside = medium("image").save(tmp_path / "secret.png")
    (tmp_path / "data" / "dog.png").symlink_to(outside)
    row = Row.from_json(part(path="dog.png"))
    with pytest.raises(ValueError, match="'dog.png' is outside of"):
        row.conversation(tmp_path / "data")


def test_a_list_without_line_breaks_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    with path.open("wb") as file:
        file.write(b"[")
        file.truncate(MAX_LINE_BYTES + 10)
    with pytest.raises(ValueError, match="line 1: longer than .* not one of a JSON list"):
        list(read_rows(path))


def test_the_documented_rows_are_rows_and_no_key_is_left_undocumented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    for line in block.splitlines():
        data = json.loads(line)
        assert Row.from_json(data).to_json() == data | {"split": "train"}
    documented = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    fields = {item.name for item in dataclasses.fields(Row)}
    assert fields | MESSAGE_KEYS | PART_KEYS | {"text"} <= documented


def test_every_format_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", text, flags=re.MULTILINE)
    assert FORMATS.keys() <= {name for row in rows for name in re.findall("`(.*?)`", row)}
