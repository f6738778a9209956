"""Turns ``{"from": ..., "value": ...}``, which all conversations of the field are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nextgpt.data.formats.schema import difference, known, list_of, restored, text_of
from nextgpt.data.rows import Part, Row, parts_of
from nextgpt.modality import Modality

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
}
SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}

Turn = dict[str, Any]


def decoded_turns(
    record: dict[str, Any],
    key: str,
    read: Callable[[str, Turn], list[Part]],
    encode: Callable[[str, list[Part]], Turn],
) -> list[dict[str, Any]]:
    """Read the turns of a record.

    Args:
        record: Has them.
        key: Under this key.
        read: Gives the parts of a turn, by its role.
        encode: The inverse: gives a turn's keys beside ``from``.

    Raises:
        ValueError: a turn lacks a key, or nobody known says it.
    """
    messages = []
    for number, turn in enumerate(list_of(record, key)):
        try:
            if not isinstance(turn, dict):
                raise ValueError(f"expected an object, found {type(turn).__name__}")
            speaker = text_of(turn, "from")
            if speaker not in ROLES:
                raise ValueError(f"from: {speaker!r:.60} is unknown; use one of {', '.join(ROLES)}")
            text_of(turn, "value")
            role = ROLES[speaker]
            parts = read(role, turn)
        except ValueError as error:
            raise ValueError(f"{key}[{number}]: {error}") from error
        extra = difference(turn, {"from": SPEAKERS[role], **encode(role, parts)})
        content = parts[0]["text"] if len(parts) == 1 and is_text(parts[0]) else parts
        messages.append(known(role=role, content=content, extra=extra))
    return messages


def encoded_turns(row: Row, encode: Callable[[str, list[Part]], Turn]) -> list[Turn]:
    """Write the turns of a row; see ``decoded_turns``."""
    turns = []
    for message in row.messages:
        turn = {"from": SPEAKERS[message["role"]], **encode(message["role"], parts_of(message))}
        turns.append(restored(turn, message.get("extra", {})))
    return turns


def is_text(part: Part) -> bool:
    """Whether a part is no medium."""
    return part["type"] == Modality.TEXT


def texts_and(parts: list[Part], written: Callable[[Part], str]) -> str:
    """Join parts to one text, media as ``written`` says."""
    return "".join(part["text"] if is_text(part) else written(part) for part in parts)
