"""Replies of a model, kept as files while a measurement goes on."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nextgpt.checkpoint import projection_state
from nextgpt.generation import MediumRequest, NextGPT
from nextgpt.messages import Message
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel

Draft = Callable[[], Iterable[str | MediumRequest]]
"""Writes one reply, its media not rendered yet."""

BATCH_SIZE = 16
MEDIA_PER_REPLY = 8
"""Seeds set aside for the media of one reply."""


def fingerprint(model: NextGPTModel) -> str:
    """Return 16 hexadecimal digits of everything that decides what a model answers."""
    digest = hashlib.sha256(model.encoder.fingerprint().encode())
    for modality, decoder in sorted(model.decoders.items()):
        settings = (decoder.num_inference_steps, decoder.guidance_scale)
        digest.update(f"{modality} {decoder.fingerprint()} {settings}".encode())
    trained = projection_state(model) | {
        name: parameter
        for part in ("signal_rows", "lora")
        for name, parameter in model.trainable_parts()[part].items()
    }
    for name, tensor in sorted(trained.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class Answers:
    """Replies as JSON lines beside their media; what is there already is not made again.

    Args:
        assistant: Whose replies.
        folder: Receives one ``NAME.jsonl`` and one folder of media a set of replies.
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

    def get(self, name: str, drafts: Mapping[str, Draft]) -> dict[str, Message]:
        """Write and render the replies that are not there yet.

        Args:
            name: Of the set.
            drafts: By the reply's own id.

        Returns:
            Replies by id, in the order of ``drafts``.
        """
        lines, media = self.folder / f"{name}.jsonl", self.folder / name
        known = self._read(lines, media)
        numbers = {id_: number for number, id_ in enumerate(drafts)}
        missing = [id_ for id_ in drafts if id_ not in known]
        with tqdm(total=len(drafts), initial=len(drafts) - len(missing), desc=name) as progress:
            for start in range(0, len(missing), BATCH_SIZE):
                ids = missing[start : start + BATCH_SIZE]
                written = []
                for id_ in ids:
                    written.append(list(drafts[id_]()))
                    progress.update()
                replies = self._render(written, [numbers[id_] for id_ in ids])
                with lines.open("a", encoding="utf-8") as file:
                    for id_, reply in zip(ids, replies, strict=True):
                        line = {"id": id_, **reply.to_json(media, prefix=f"{id_}-")}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        known = self._read(lines, media)
        return {id_: known[id_] for id_ in drafts}

    @staticmethod
    def _read(lines: Path, media: Path) -> dict[str, Message]:
        if not lines.exists():
            return {}
        replies = {}
        for line in lines.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            replies[record["id"]] = Message.from_json(record, media, str(lines))
        return replies

    def _render(
        self, written: list[list[str | MediumRequest]], numbers: list[int]
    ) -> list[Message]:
        """Render the media of some replies, those of one modality in one batch."""
        replies = [joined(pieces) for pieces in written]
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


def joined(pieces: list[str | MediumRequest]) -> list[Any]:
    """Join neighbouring pieces of text."""
    parts: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str) and parts and isinstance(parts[-1], str):
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts
