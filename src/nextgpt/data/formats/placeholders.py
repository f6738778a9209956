"""Conversations with ``<image>``, ``<video>`` and ``<audio>`` in the text where media stand.

The second generation of the original project, LLaVA-Instruct and what is shaped like it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from nextgpt.data.formats.schema import Folders, Schema
from nextgpt.data.formats.turns import Turn, decoded_turns, encoded_turns, is_text, texts_and
from nextgpt.data.rows import Part, Row, text_part, tidy
from nextgpt.modality import MODALITIES, Modality

_PLACES = re.compile("({})".format("|".join(row.placeholder for row in MODALITIES.values())))
_MODALITY_OF = {row.placeholder: modality for modality, row in MODALITIES.items()}

Queues = dict[tuple[str, Modality], list[Part]]
"""Media of a record by the role of who shows them."""


@dataclass(frozen=True)
class Placeholders(Schema):
    """Records of turns in one list and of media in others, which the placeholders count off.

    A placeholder in a text of a record that names no such media is a text like any other.
    """

    shown: str = "input_{}"
    """Key of the media that the user shows; the braces are the modality."""
    id: str = ""
    """Key of what becomes the row's id; none by default."""
    names_answers: bool = True
    """Whether encoding names the assistant's media where the ``.npy`` files tell their names."""
    as_lists: bool = False
    """Whether encoding writes a single medium as a list of one."""
    tells_modalities: bool = False
    """Whether turns tell ``input_modality``, ``output_modality`` and ``caption`` as well."""

    def decode(self, record: dict[str, Any], folders: Folders) -> tuple[str, list[dict[str, Any]]]:
        """See ``Schema.decode``."""
        queues = self._media(record, folders)
        totals = {place: len(media) for place, media in queues.items()}
        messages = decoded_turns(
            record, "conversations", partial(_dealt, queues, totals), self._encode_turn
        )
        for (role, modality), left in queues.items():
            if left:
                total = totals[role, modality]
                raise ValueError(
                    f"names {total} {modality} for the {role}, whose turns have "
                    f"{total - len(left)} {MODALITIES[modality].placeholder}"
                )
        name = record.get(self.id, "")
        return str(name), messages

    def _media(self, record: dict[str, Any], folders: Folders) -> Queues:
        queues: Queues = {}
        for modality in MODALITIES:
            shown = _listed(record, self.shown.format(modality))
            queues["user", modality] = [
                {"type": str(modality), "path": folders.path(name)} for name in shown
            ]
            queues["assistant", modality] = _answers(record, modality, folders)
        return {place: media for place, media in queues.items() if media}

    def encode(self, row: Row, folders: Folders) -> dict[str, Any]:
        """See ``Schema.encode``."""
        record: dict[str, Any] = {self.id: row.id} if self.id else {}
        for modality in MODALITIES:
            shown, answers = (
                [part for who, part in row.media() if (who, part["type"]) == (role, modality)]
                for role in ("user", "assistant")
            )
            paths = [folders.name(part) for part in answers]
            captions = [part["caption"] for part in answers if "caption" in part]
            conditioning = [folders.conditioning_name(p) for p in answers if "conditioning" in p]
            for found in (captions, conditioning):
                if found and len(found) < len(answers):
                    raise ValueError(
                        f"{len(found)} of {len(answers)} {modality} have a caption or precomputed "
                        "conditioning, such records have it of all or of none"
                    )
            if not self.names_answers and conditioning == [f"{path}.npy" for path in paths]:
                paths = []
            columns = {
                self.shown.format(modality): [folders.name(part) for part in shown],
                f"output_{modality}": paths,
                f"{modality}_captions": captions,
                f"{modality}_caption_embeddings": conditioning,
            }
            for key, values in columns.items():
                if values:
                    record[key] = values if self.as_lists or len(values) > 1 else values[0]
        return {**record, "conversations": encoded_turns(row, self._encode_turn)}

    def _encode_turn(self, role: str, parts: list[Part]) -> Turn:
        value = texts_and(parts, lambda part: MODALITIES[Modality(part["type"])].placeholder)
        turn: Turn = {"value": value}
        if not self.tells_modalities or role == "system":
            return turn
        media = [part for part in parts if not is_text(part)]
        direction = "input_modality" if role == "user" else "output_modality"
        turn[direction] = media[0]["type"] if media else str(Modality.TEXT)
        if role == "assistant" and media and "caption" in media[0]:
            turn["caption"] = media[0]["caption"]
        return turn


def _listed(record: dict[str, Any], key: str) -> list[Any]:
    """What stands under a key, where one may stand alone."""
    found = record.get(key, [])
    return found if isinstance(found, list) else [found]


def _answers(record: dict[str, Any], modality: Modality, folders: Folders) -> list[Part]:
    """The assistant's media of one modality."""
    keys = f"output_{modality}", f"{modality}_captions", f"{modality}_caption_embeddings"
    paths, captions, conditionings = (_listed(record, key) for key in keys)
    counts = {key: len(found) for key in keys if (found := _listed(record, key))}
    if len(set(counts.values())) > 1:
        words = ", ".join(f"{count} {key}" for key, count in counts.items())
        raise ValueError(f"{words}: not as many of each")
    if captions and not paths and not conditionings:
        raise ValueError(f"{keys[1]}: neither {keys[0]} nor {keys[2]} says whose captions they are")
    if not paths:
        paths = [_without_npy(name, keys[2]) for name in conditionings]
    media: list[Part] = []
    for number, path in enumerate(paths):
        part = {"type": str(modality), "path": folders.path(path)}
        if captions:
            part["caption"] = captions[number]
        if conditionings:
            part["conditioning"] = folders.conditioning_path(conditionings[number])
        media.append(part)
    return media


def _without_npy(name: Any, key: str) -> str:
    """The medium whose conditioning a file holds: they are called the same, with ``.npy`` added."""
    if not isinstance(name, str) or not name.endswith(".npy") or name == ".npy":
        raise ValueError(f"{key}: {name!r:.60} is not named like the medium with .npy added")
    return name.removesuffix(".npy")


def _dealt(
    queues: Queues, totals: dict[tuple[str, Modality], int], role: str, turn: Turn
) -> list[Part]:
    """Put the next media of the queues where the placeholders of a turn are."""

    def part_of(text: str) -> Part:
        modality = _MODALITY_OF.get(text)
        if modality is None or (role, modality) not in queues:
            return text_part(text)
        queue = queues[role, modality]
        if not queue:
            raise ValueError(
                f"one {text} more than the {totals[role, modality]} {modality} named for the {role}"
            )
        return queue.pop(0)

    return tidy(map(part_of, _PLACES.split(turn["value"])))
