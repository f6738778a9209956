"""Manifests of conversations: JSON lines, one each. ``docs/data.md`` describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextgpt.data.json_lines import read_json_lines, write_json_lines
from nextgpt.media import Medium
from nextgpt.messages import PART_KEYS, Conversation, check_relative, path_inside
from nextgpt.modality import MODALITIES, Modality

Part = dict[str, Any]
"""A text or a medium as plain data."""

MESSAGE_KEYS = frozenset({"role", "content", "extra"})
_KEYS_OF = {
    Modality.TEXT: frozenset({"type", "text"}),
    **dict.fromkeys(MODALITIES, PART_KEYS),
}
NOWHERE = Path()
"""Names are checked against it without a look at disk."""


@dataclass
class Row:
    """One conversation and where it comes from.

    The messages are plain data, as ``Conversation.to_json`` writes it. Beside ``path``, ``caption``
    and ``seed`` a medium may have ``conditioning``, the ``.npy`` file of its caption's precomputed
    conditioning, and like a message ``extra``.
    """

    id: str
    messages: list[dict[str, Any]]
    source: str = ""
    licence: str = ""
    split: str = "train"
    extra: dict[str, Any] = field(default_factory=dict)
    """What the original says of the conversation beside all that."""

    @classmethod
    def from_json(cls, data: Any) -> Row:
        """Read a row; its media are not looked up.

        Raises:
            ValueError: it is no row; names the key and the offending value.
        """
        if not isinstance(data, dict):
            raise ValueError(f"expected a JSON object, found {type(data).__name__}")
        for key in data.keys() - _FIELD_TYPES.keys():
            raise ValueError(f"unknown key {key!r}; put it into extra")
        for key, wanted in _FIELD_TYPES.items():
            if key not in data and key not in ("id", "messages"):
                continue
            if not isinstance(data.get(key), wanted):
                raise ValueError(f"{key}: {data.get(key)!r:.60} is no {_TYPE_NAMES[wanted]}")
        if not data["id"] or not data["messages"]:
            raise ValueError("id or messages are empty; give both")
        Conversation.from_json(data, NOWHERE, look_up=False)
        for number, message in enumerate(data["messages"]):
            where = f"messages[{number}]"
            _check_additions(message, MESSAGE_KEYS, where)
            if isinstance(message["content"], list):
                for part in message["content"]:
                    _check_additions(part, _KEYS_OF[part["type"]], where)
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """The row as plain data; what is empty is left out."""
        row = {key: getattr(self, key) for key in _FIELD_TYPES}
        return {key: value for key, value in row.items() if value}

    def parts(self) -> Iterator[tuple[str, Part]]:
        """All parts, text and media, with the role of who says them."""
        return ((each["role"], part) for each in self.messages for part in parts_of(each))

    def media(self) -> Iterator[tuple[str, Part]]:
        """The media among the parts."""
        return ((role, part) for role, part in self.parts() if part["type"] != Modality.TEXT)

    def conversation(self, folder: Path) -> Conversation:
        """The conversation, with the media of the manifest's folder, which need not be there yet.

        Raises:
            ValueError: a medium is outside of the folder.
        """
        conversation = Conversation.from_json({"messages": self.messages}, folder, look_up=False)
        for message in conversation.messages:
            for medium in message.media:
                medium.path = _inside(folder, medium)
        return conversation


_FIELD_TYPES: dict[str, type] = {
    item.name: {"messages": list, "extra": dict}.get(item.name, str)
    for item in dataclasses.fields(Row)
}
_TYPE_NAMES: dict[type, str] = {str: "string", list: "list", dict: "object"}


def text_part(text: str) -> Part:
    """A text as a part of a message."""
    return {"type": str(Modality.TEXT), "text": text}


def parts_of(message: Mapping[str, Any]) -> list[Part]:
    """The parts of a message, whose content may be a plain string."""
    content = message["content"]
    return [text_part(content)] if isinstance(content, str) else content


def tidy(parts: Iterable[Part]) -> list[Part]:
    """Join texts that follow each other and leave out empty ones."""
    found: list[Part] = []
    for part in parts:
        if part["type"] != Modality.TEXT:
            found.append(part)
        elif found and found[-1]["type"] == Modality.TEXT:
            found[-1] = text_part(found[-1]["text"] + part["text"])
        elif part["text"]:
            found.append(part)
    return found


def _check_additions(data: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Look at the keys of a message or part that only manifests have."""
    if not data.keys() <= known:
        raise ValueError(f"{where}: unknown key {min(data.keys() - known)!r}; put it into extra")
    if "extra" in data and not isinstance(data["extra"], dict):
        raise ValueError(f"{where}: extra {data['extra']!r:.60} is no object")
    if "conditioning" in data:
        if not isinstance(data["conditioning"], str):
            raise ValueError(f"{where}: conditioning {data['conditioning']!r:.60} is no string")
        check_relative(data["conditioning"], f"{where}, conditioning")


def _inside(folder: Path, medium: Medium) -> Path:
    assert medium.path is not None, "media of manifests are files"
    return path_inside(folder, str(medium.path.relative_to(folder)), "path")


def read_rows(path: Path, bar: bool = False) -> Generator[tuple[str, Row]]:
    """Read a manifest row by row, each with its place for errors: ``FILE, line N``.

    Raises:
        ValueError: there is no such file, or a line is no row; names file, line and key.
    """
    for number, data in read_json_lines(path, bar):
        where = f"{path}, line {number}"
        try:
            row = Row.from_json(data)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        yield where, row


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a manifest; it appears whole or not at all."""
    write_json_lines(path, (row.to_json() for row in rows))
