"""Conversations about one medium whose turns tell modalities: the original's first form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from nextgpt.data.formats.schema import Folders, Schema, text_of
from nextgpt.data.formats.turns import Turn, decoded_turns, encoded_turns, is_text
from nextgpt.data.rows import Part, Row, text_part
from nextgpt.modality import MODALITIES, Modality

NO_MEDIUM = "00000000000"
"""The name that rows without a medium have."""

DIRECTIONS = {"user": "input_modality", "assistant": "output_modality"}


@dataclass(frozen=True)
class ModalityTurns(Schema):
    """Records that name one medium; it stands in the first turn that tells a medium's modality.

    The user's medium stands before the text, the assistant's behind it.
    """

    name: str
    """Key of the medium's name."""
    tells_answer: bool = False
    """Whether a record tells the modality of its answer as well."""

    def decode(self, record: dict[str, Any], folders: Folders) -> tuple[str, list[dict[str, Any]]]:
        """See ``Schema.decode``."""
        name = text_of(record, self.name)
        waiting = [] if name == NO_MEDIUM else [folders.path(name)]
        messages = decoded_turns(record, "conversation", partial(_placed, waiting), _encode_turn)
        if waiting:
            raise ValueError(
                f"{self.name}: {name!r} has no place, no turn tells of a medium; without one the "
                f"name is {NO_MEDIUM}"
            )
        return "", messages

    def encode(self, row: Row, folders: Folders) -> dict[str, Any]:
        """See ``Schema.encode``."""
        media = list(row.media())
        if len(media) > 1:
            raise ValueError(f"has {len(media)} media, such records have one")
        record: dict[str, Any] = {self.name: NO_MEDIUM}
        if media:
            record[self.name] = folders.name(media[0][1])
        record["conversation"] = encoded_turns(row, _encode_turn)
        if self.tells_answer:
            answers = [str(part["type"]) for role, part in media if role == "assistant"]
            record["output_modality"] = answers[0] if answers else str(Modality.TEXT)
        return record


def _placed(waiting: list[str], role: str, turn: Turn) -> list[Part]:
    """The parts of a turn; the medium leaves those that wait."""
    parts = [text_part(turn["value"])] if turn["value"] else []
    modality = turn.get(DIRECTIONS.get(role, ""), Modality.TEXT)
    if modality not in (*MODALITIES, Modality.TEXT):
        raise ValueError(f"{DIRECTIONS[role]}: {modality!r:.60} is unknown")
    if modality == Modality.TEXT or not waiting:
        return parts
    medium = {"type": modality, "path": waiting.pop()}
    if turn.get("caption"):
        medium["caption"] = text_of(turn, "caption")
    return [medium, *parts] if role == "user" else [*parts, medium]


def _encode_turn(role: str, parts: list[Part]) -> Turn:
    texts = [part["text"] for part in parts if is_text(part)]
    media = [part for part in parts if not is_text(part)]
    place = 0 if role == "user" else len(parts) - 1
    if len(texts) > 1 or (media and parts[place] is not media[0]) or (media and role == "system"):
        raise ValueError(
            "has a medium in the middle of a text; such records have the user's before it and the "
            "assistant's behind it"
        )
    turn: Turn = {"value": "".join(texts)}
    if role in DIRECTIONS:
        turn[DIRECTIONS[role]] = str(media[0]["type"] if media else Modality.TEXT)
    if role == "assistant":
        turn["caption"] = media[0].get("caption", "") if media else ""
    elif media and "caption" in media[0]:
        turn["caption"] = media[0]["caption"]
    return turn
