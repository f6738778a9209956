"""Replies of a model, kept as files while a measurement goes on: written first, rendered later."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from nextgpt.checkpoint import projection_state
from nextgpt.generation import NextGPT
from nextgpt.media.base import atomic_path
from nextgpt.messages import Message
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.writing import MediumRequest, Written

T = TypeVar("T")

Writer = Callable[[list[T]], Iterable[tuple[int, Written]]]
"""Writes replies side by side: the number of one and the next piece of it."""

BATCH_SIZE = 16
MEDIA_PER_REPLY = 8
"""Seeds set aside for the media of one reply."""


def fingerprint(model: NextGPTModel) -> str:
    """Return 16 hexadecimal digits of everything that decides what a model answers."""
    digest = hashlib.sha256(model.encoder.fingerprint().encode())
    for modality, decoder in sorted(model.decoders.items()):
        digest.update(f"{modality} {decoder.fingerprint()} {decoder.sampling()}".encode())
    trained = projection_state(model) | {
        name: parameter
        for part in ("signal_rows", "lora")
        for name, parameter in model.trainable_parts()[part].items()
    }
    for name, tensor in sorted(trained.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class WrittenReply:
    """A reply whose media are asked for, not rendered."""

    parts: list[Written]

    @property
    def modalities(self) -> list[Modality]:
        """The media asked for, in order."""
        return [part.modality for part in self.parts if isinstance(part, MediumRequest)]

    @property
    def text(self) -> str:
        """The text parts, one space between them where media stand."""
        return " ".join(part.strip() for part in self.parts if isinstance(part, str))


class Answers:
    """Replies as JSON lines beside their media; what is there already is not made again.

    Args:
        assistant: Whose replies.
        folder: Receives two ``.jsonl`` files and one folder of media a set of replies.
        seed: Of the media. Replies of the same number in two sets share their seeds.
    """

    def __init__(self, assistant: NextGPT, folder: Path, seed: int = 0) -> None:
        self.assistant = assistant
        self.folder = folder
        self.seed = seed
        owner = {"model": fingerprint(assistant.model), "seed": seed}
        record = folder / "owner.json"
        if not record.exists() or json.loads(record.read_text()) != owner:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            record.write_text(json.dumps(owner) + "\n")

    def write(
        self, name: str, cases: Mapping[str, T], writer: Writer[T]
    ) -> dict[str, WrittenReply]:
        """Write the replies that are not there yet, and render nothing.

        Args:
            name: Of the set.
            cases: What is answered, by the reply's own id.
            writer: Answers some of the cases.

        Returns:
            Replies by id, in the order of ``cases``.
        """
        lines, conditioning = self.folder / f"{name}-written.jsonl", self.folder / name
        known = {record["id"]: record["parts"] for record in _records(lines)}
        missing = [id_ for id_ in cases if id_ not in known]
        with tqdm(total=len(missing), desc=f"{name}: replies", disable=not missing) as progress:
            for start in range(0, len(missing), BATCH_SIZE):
                ids = missing[start : start + BATCH_SIZE]
                pieces: list[list[Written]] = [[] for _ in ids]
                for number, piece in writer([cases[id_] for id_ in ids]):
                    pieces[number].append(piece)
                made = {
                    id_: _kept_parts(joined(reply), conditioning, id_)
                    for id_, reply in zip(ids, pieces, strict=True)
                }
                _append(lines, [{"id": id_, "parts": parts} for id_, parts in made.items()])
                known |= made
                progress.update(len(ids))
        return {
            id_: WrittenReply([_read_part(p, conditioning) for p in known[id_]]) for id_ in cases
        }

    def get(
        self,
        name: str,
        cases: Mapping[str, T],
        writer: Writer[T],
        rendered: Collection[str] | None = None,
    ) -> dict[str, Message]:
        """Write the replies that are not there yet, and render their media.

        Args:
            name: Of the set.
            cases: As in ``write``; the place of one among them decides its seeds.
            writer: As in ``write``.
            rendered: Ids of the replies wanted; all by default.

        Returns:
            Replies by id, in the order of ``cases``.
        """
        written = self.write(name, cases, writer)
        lines, media = self.folder / f"{name}.jsonl", self.folder / name
        wanted = [id_ for id_ in cases if rendered is None or id_ in rendered]
        known = {record["id"] for record in _records(lines)}
        missing = [id_ for id_ in wanted if id_ not in known]
        numbers = {id_: number for number, id_ in enumerate(cases)}
        with tqdm(total=len(missing), desc=f"{name}: media", disable=not missing) as progress:
            for start in range(0, len(missing), BATCH_SIZE):
                ids = missing[start : start + BATCH_SIZE]
                replies = self._render([written[id_] for id_ in ids], [numbers[i] for i in ids])
                made = zip(ids, replies, strict=True)
                _append(lines, [{"id": i, **r.to_json(media, prefix=f"{i}-")} for i, r in made])
                progress.update(len(ids))
        records = {record["id"]: record for record in _records(lines)}
        return {id_: Message.from_json(records[id_], media, str(lines)) for id_ in wanted}

    def kept(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return numbers that are costly to measure; they are measured once."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            with atomic_path(path) as partial:
                partial.write_text(json.dumps(measure()) + "\n")
        found: dict[str, float] = json.loads(path.read_text())
        return found

    def _render(self, written: list[WrittenReply], numbers: list[int]) -> list[Message]:
        """Render the media of some replies, those of one modality in one batch."""
        replies: list[list[Any]] = [list(reply.parts) for reply in written]
        places: dict[Modality, list[tuple[list[Any], int, int]]] = defaultdict(list)
        for parts, number in zip(replies, numbers, strict=True):
            seeds = itertools.count(self.seed + MEDIA_PER_REPLY * number)
            for column, part in enumerate(parts):
                if isinstance(part, MediumRequest):
                    places[part.modality].append((parts, column, next(seeds)))
        for modality, found in places.items():
            conditioning = torch.cat([parts[column].conditioning for parts, column, _ in found])
            generators = [torch.Generator().manual_seed(seed) for *_, seed in found]
            rendered = self.assistant.model.decoders[modality].decode(conditioning, generators)
            for medium, (parts, column, seed) in zip(rendered, found, strict=True):
                medium.seed = seed
                parts[column] = medium
        return [Message("assistant", parts) for parts in replies]


def joined(pieces: Iterable[Written]) -> list[Written]:
    """Join neighbouring pieces of text."""
    parts: list[Written] = []
    for piece in pieces:
        if isinstance(piece, str) and parts and isinstance(parts[-1], str):
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts


def _kept_parts(parts: Iterable[Written], folder: Path, id_: str) -> list[dict[str, str]]:
    """Describe the parts of a reply; conditioning is written to files."""
    kept: list[dict[str, str]] = []
    for number, part in enumerate(parts):
        if isinstance(part, str):
            kept.append({"text": part})
            continue
        path = folder / f"{id_}-{number}.npy"
        with atomic_path(path) as partial:
            np.save(partial, part.conditioning.float().cpu().numpy())
        kept.append({"modality": part.modality, "conditioning": path.name})
    return kept


def _read_part(record: Mapping[str, str], folder: Path) -> Written:
    if "text" in record:
        return record["text"]
    conditioning = torch.from_numpy(np.load(folder / record["conditioning"]))
    return MediumRequest(Modality(record["modality"]), conditioning)


def _records(lines: Path) -> list[dict[str, Any]]:
    if not lines.exists():
        return []
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def _append(lines: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with lines.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
