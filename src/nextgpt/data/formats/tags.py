"""Conversations with ``<Image>name</Image>`` in the text where media stand: MosIT as it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from nextgpt.data.formats.schema import (
    Folders,
    Schema,
    difference,
    known,
    list_of,
    restored,
    text_of,
)
from nextgpt.data.formats.turns import Turn, decoded_turns, encoded_turns, texts_and
from nextgpt.data.rows import Part, Row, text_part, tidy
from nextgpt.modality import MODALITIES, Modality

_TAGS = re.compile(
    "({})".format("|".join(f"<{m.capitalize()}>.*?</{m.capitalize()}>" for m in MODALITIES)),
    re.DOTALL,
)


@dataclass(frozen=True)
class Tags(Schema):
    """Records of a list of media for each modality, which tags in the turns call by name.

    A tag that calls none of them is a text like any other.
    """

    def decode(self, record: dict[str, Any], folders: Folders) -> tuple[str, list[dict[str, Any]]]:
        """See ``Schema.decode``."""
        media: dict[str, Part] = {}
        for modality in MODALITIES:
            for number, entry in enumerate(list_of(record, f"{modality}_list")):
                try:
                    media[_tag(modality, entry[f"{modality}_name"])] = _medium(
                        modality, entry, folders
                    )
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{modality}_list[{number}]: {error}") from error
        encode = partial(_encode_turn, folders)
        return "", decoded_turns(record, "conversation", partial(_called, media), encode)

    def encode(self, row: Row, folders: Folders) -> dict[str, Any]:
        """See ``Schema.encode``."""
        record: dict[str, Any] = {}
        for modality in MODALITIES:
            entries = {
                part["path"]: restored(_entry(modality, part, folders), part.get("extra", {}))
                for _, part in row.media()
                if part["type"] == modality
            }
            record[f"{modality}_list"] = list(entries.values())
        turns = encoded_turns(row, partial(_encode_turn, folders))
        return {**record, "conversation": turns}


def _tag(modality: str, name: str) -> str:
    return f"<{modality.capitalize()}>{name}</{modality.capitalize()}>"


def _medium(modality: Modality, entry: dict[str, Any], folders: Folders) -> Part:
    name = text_of(entry, f"{modality}_name")
    part = {
        "type": str(modality),
        "path": folders.path(name),
        "caption": text_of(entry, "caption"),
    }
    return {**part, **known(extra=difference(entry, _entry(modality, part, folders)))}


def _entry(modality: str, part: Part, folders: Folders) -> dict[str, Any]:
    return {f"{modality}_name": folders.name(part), **known(caption=part.get("caption"))}


def _called(media: dict[str, Part], _role: str, turn: Turn) -> list[Part]:
    """Put media where the tags of a turn call them."""
    texts = _TAGS.split(turn["value"])
    return tidy(dict(media[text]) if text in media else text_part(text) for text in texts)


def _encode_turn(folders: Folders, _role: str, parts: list[Part]) -> Turn:
    return {"value": texts_and(parts, lambda part: _tag(part["type"], folders.name(part)))}
