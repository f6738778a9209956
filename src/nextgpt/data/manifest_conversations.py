"""Training conversations from manifests that are larger than memory."""

from __future__ import annotations

import hashlib
import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt.data.answer_formats import AnswerFormat
from nextgpt.data.json_lines import numbered_lines, parsed
from nextgpt.data.row_conversations import (
    Choice,
    RowConversations,
    Rows,
    Turn,
    kept_array,
    media_of,
)
from nextgpt.data.rows import Row
from nextgpt.media import Medium
from nextgpt.messages import Conversation


class RowIndex(Rows):
    """Where the chosen rows of a manifest are, so that each can be read alone.

    Every row is looked at once, when the index is built, and a faulty one is refused then. The
    index is a file in the user's cache, 16 bytes a row, of which only the pages in use are in
    memory; another size or time of the manifest gives another index.
    """

    def __init__(self, manifest: Path, choice: Choice) -> None:
        """Build the index, or take the one that is there.

        Args:
            manifest: JSON lines, see ``nextgpt.data.rows``.
            choice: Of the rows.

        Raises:
            ValueError: a line is no row, or there are no rows like these.
        """
        if not manifest.is_file():
            raise ValueError(f"{manifest}: no such file; `nextgpt convert data` makes manifests")
        self.manifest = manifest
        self.version = _version(manifest.stat())
        recipe = (str(manifest.resolve()), self.version, choice)
        self.spans = kept_array(recipe, lambda: self._spans(choice))
        if not len(self.spans):
            raise ValueError(f"{manifest}: no rows of {choice} to learn from")

    def _spans(self, choice: Choice) -> np.ndarray:
        """(n, 2) start and length of every chosen row, in bytes."""
        spans = array("Q")
        for number, start, line in numbered_lines(self.manifest, bar=True):
            try:
                if choice.takes(Row.from_json(parsed(line))):
                    spans.extend((start, len(line)))
            except ValueError as error:
                raise ValueError(f"{self.manifest}, line {number}: {error}") from error
        return np.frombuffer(spans, np.uint64).reshape(-1, 2)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.spans)

    def read(self, number: int) -> tuple[Row, Conversation]:
        """Read a row; its media are files beside the manifest.

        Raises:
            ValueError: the manifest was changed meanwhile.
        """
        start, length = map(int, self.spans[number])
        # Opened anew each time, so that processes that share this object do not share a place.
        with self.manifest.open("rb") as file:
            if _version(os.fstat(file.fileno())) != self.version:
                raise ValueError(f"{self.manifest}: changed since training began; start again")
            file.seek(start)
            row = Row.from_json(parsed(file.read(length)))
        return row, row.conversation(self.manifest.parent)


def _version(facts: os.stat_result) -> tuple[int, int]:
    """What changes when a file does."""
    return facts.st_size, facts.st_mtime_ns


class ManifestConversations(RowConversations):
    """The conversations of a manifest in random order, every one once a round."""

    def __init__(
        self,
        manifest: Path,
        split: str = "train",
        source: str | None = None,
        turn: Turn = "as_written",
        precompute: bool = False,
        seed: int = 0,
        answer_format: AnswerFormat | None = None,
        shuffle_first_turn: bool = False,
    ) -> None:
        """Choose rows.

        Args:
            manifest: JSON lines, see docs/data.md.
            split: Which rows.
            source: Of this source; of all by default.
            turn: What becomes of a row: the conversation as it is written; its first medium with a
                caption, then the caption as the answer (``medium_to_caption``, for encode_align);
                or the caption, then the medium (``caption_to_medium``, for decode_align).
            precompute: Compute the features and the conditioning of all rows before training, where
                they fit into memory; otherwise as they come.
            seed: Of the order and of first turns.
            answer_format: Put the prompt of this format, of ``nextgpt.data.answer_formats``, below
                the question of rows whose ``extra`` does not name another one.
            shuffle_first_turn: Let the medium of a first question stand before its text or behind
                it, at random and either way half of the time (LLaVA's, arXiv:2304.08485).

        Raises:
            ValueError: ``turn`` or ``answer_format`` is unknown, or there are no questions.
        """
        super().__init__(split, source, turn, seed, answer_format, shuffle_first_turn)
        self.manifest = manifest
        self.precompute = precompute

    def files(self) -> list[Path]:
        """The manifest."""
        return [self.manifest]

    def _choose(self, choice: Choice) -> RowIndex:
        return RowIndex(self.manifest, choice)

    def media(self) -> list[Medium]:
        """Media that are shown, if they are to be computed beforehand."""
        if not self.precompute or self.turn == "caption_to_medium":
            return []
        return [medium for each in self._all() for medium in media_of(each)]

    def captions(self) -> list[Medium]:
        """Media that are asked for, if their conditioning is to be computed beforehand."""
        if not self.precompute or self.turn == "medium_to_caption":
            return []
        answers = (each.messages for each in self._all())
        messages = (message for messages in answers for message in messages)
        return [m for message in messages if message.role == "assistant" for m in message.media]

    def _all(self) -> list[Conversation]:
        return [self._turned(number) for number in range(len(self.rows))]

    def provenance(self) -> dict[str, Any]:
        """Hash of the manifest as well."""
        with self.manifest.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return super().provenance() | {"manifest": digest}
