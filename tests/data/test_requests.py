"""Files of requests: what a line may be, and how a line that cannot be used is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_chain import medium

from nextgpt.data.requests import read_requests


def written(folder: Path, lines: list[Any]) -> Path:
    """A file of data as JSON lines; a string is a line as it is."""
    path = folder / "requests.jsonl"
    texts = [x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in lines]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def test_a_line_is_a_text_or_a_conversation(tmp_path: Path) -> None:
    medium("image").save(tmp_path / "media" / "dog.png")
    content = [{"type": "text", "text": "What?"}, {"type": "image", "path": "media/dog.png"}]
    messages = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": content},
    ]
    (_, first), (_, second) = read_requests(
        written(tmp_path, [{"text": "Draw a dog."}, {"messages": messages}])
    )
    assert [(message.role, message.parts) for message in first.messages] == [
        ("user", ["Draw a dog."])
    ]
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[2].images[0].size == (32, 32)


def test_blank_lines_are_skipped_and_still_counted(tmp_path: Path) -> None:
    path = written(tmp_path, ["", {"text": "a"}, "  ", "", {"text": "b"}])
    assert [(number, each.messages[0].text) for number, each in read_requests(path)] == [
        (2, "a"),
        (5, "b"),
    ]


@pytest.mark.parametrize("character", ["\u2028", "\u0085", "\x1c", "\n", "\r"], ids=ascii)
def test_a_text_may_hold_any_line_break(tmp_path: Path, character: str) -> None:
    texts = [f"one{character}two", "next"]
    requests = read_requests(written(tmp_path, [{"text": text} for text in texts]))
    assert [each.messages[0].parts for _, each in requests] == [[text] for text in texts]
    assert [number for number, _ in requests] == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[1]", "messages"),
        ({"text": 3}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "'robot'"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "path": "gone.png"}]}]},
         "gone.png"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "path": "../up.png"}]}]},
         "outside"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: Any, reason: str) -> None:
    path = written(tmp_path, [{"text": "fine"}, line])
    with pytest.raises(ValueError, match=rf"requests\.jsonl, line 2: .*{reason}"):
        read_requests(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.jsonl: no such file"):
        read_requests(tmp_path / "gone.jsonl")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.jsonl"
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"picture\.jsonl"):
        read_requests(path)
