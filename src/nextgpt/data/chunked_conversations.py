"""Training conversations from chunks, see ``nextgpt.data.chunks``."""

from __future__ import annotations

import hashlib
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nextgpt.data.answer_formats import AnswerFormat
from nextgpt.data.chunks import ChunkFolder
from nextgpt.data.row_conversations import Choice, RowConversations, Rows, Turn, kept_array
from nextgpt.data.rows import Row
from nextgpt.messages import Conversation


class ChunkRows(Rows):
    """The chosen rows of a folder of chunks.

    Every row is looked at once, without its media, and a faulty one is refused then. The numbers of
    the chosen ones are a file in the user's cache, 8 bytes a row, of which only the pages in use
    are in memory; another ``index.json`` gives another file.
    """

    def __init__(self, folder: Path, choice: Choice) -> None:
        """Choose rows, or take the choice that is there.

        Raises:
            ValueError: the folder has faults, see ``ChunkFolder``, or there are no rows like these.
        """
        self.chunks = ChunkFolder(folder)
        facts = self.chunks.index.stat()
        version = (facts.st_size, facts.st_mtime_ns)
        recipe = ("chunks", str(folder.resolve()), version, choice)
        self.numbers = kept_array(recipe, lambda: self._numbers(choice))
        if not len(self.numbers):
            raise ValueError(f"{folder}: no rows of {choice} to learn from")

    def _numbers(self, choice: Choice) -> np.ndarray:
        numbers = array("Q")
        rows = tqdm(self.chunks.rows(), self.chunks.folder.name, len(self.chunks), unit="row")
        for number, where, row in rows:
            try:
                if choice.takes(row):
                    numbers.append(number)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        return np.frombuffer(numbers, np.uint64)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    def read(self, number: int) -> tuple[Row, Conversation]:
        """Read a row, and the bytes of its media."""
        return self.chunks.read(int(self.numbers[number]))


class ChunkedConversations(RowConversations):
    """The conversations of a folder of chunks, as ``ManifestConversations`` gives those of a file.

    With the same seed they come in the same order.
    """

    def __init__(
        self,
        folder: Path,
        split: str = "train",
        source: str | None = None,
        turn: Turn = "as_written",
        seed: int = 0,
        answer_format: AnswerFormat | None = None,
        shuffle_first_turn: bool = False,
    ) -> None:
        """Choose rows.

        Args:
            folder: Made by ``nextgpt data optimize``, see docs/data.md.
            split: Which rows.
            source: Of this source; of all by default.
            turn: What becomes of a row: the conversation as it is written; its first medium with a
                caption, then the caption as the answer (``medium_to_caption``, for encode_align);
                or the caption, then the medium (``caption_to_medium``, for decode_align).
            seed: Of the order and of first turns.
            answer_format: Put the prompt of this format, of ``nextgpt.data.answer_formats``, below
                the question of rows whose ``extra`` does not name another one.
            shuffle_first_turn: Let the medium of a first question stand before its text or behind
                it, at random and either way half of the time (LLaVA's, arXiv:2304.08485).

        Raises:
            ValueError: ``turn`` or ``answer_format`` is unknown, or there are no questions.
        """
        super().__init__(split, source, turn, seed, answer_format, shuffle_first_turn)
        self.folder = folder

    def _choose(self, choice: Choice) -> ChunkRows:
        return ChunkRows(self.folder, choice)

    def provenance(self) -> dict[str, Any]:
        """Hash of the index, which holds that of all rows and media, as well."""
        index = (self.folder / "index.json").read_bytes()
        return super().provenance() | {"chunks": hashlib.sha256(index).hexdigest()[:16]}
