"""Training conversations out of rows that are larger than memory, wherever the rows are kept."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from nextgpt.data.conversations import ConversationSource
from nextgpt.data.rows import Row
from nextgpt.media import Medium
from nextgpt.media.base import atomic_path
from nextgpt.messages import Conversation
from nextgpt.sources import cache_dir

Turn = Literal["as_written", "medium_to_caption", "caption_to_medium"]


@dataclass(frozen=True)
class Choice:
    """Which rows are learned from."""

    split: str
    source: str | None = None
    """Any where None."""
    captioned: bool = False
    """Whether every row must have a medium with a caption."""

    def takes(self, row: Row) -> bool:
        """Whether a row is one of them.

        Raises:
            ValueError: it is, and should have a medium with a caption.
        """
        if row.split != self.split or self.source not in (None, row.source):
            return False
        if self.captioned:
            captioned_medium(row)
        return True

    def __str__(self) -> str:
        """Name them for errors."""
        return f"split {self.split!r}" + (f" and source {self.source!r}" if self.source else "")


class Rows(ABC):
    """Chosen rows, each of which can be read alone."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def read(self, number: int) -> tuple[Row, Conversation]:
        """Read a row, and the conversation with its media."""


class RowConversations(ConversationSource):
    """The conversations of chosen rows in random order, every one once a round.

    Number ``index`` is read when it is asked for and is always the same, so a run is resumed by a
    number and shared by ranks that take every n-th. Memory does not depend on the number of rows.
    """

    def __init__(self, split: str, source: str | None, turn: Turn, seed: int) -> None:
        """Choose rows.

        Args:
            split: Which rows.
            source: Of this source; of all where None.
            turn: What becomes of a row: the conversation as it is written; its first medium with a
                caption, then the caption as the answer (``medium_to_caption``, for encode_align);
                or the caption, then the medium (``caption_to_medium``, for decode_align).
            seed: Of the order.

        Raises:
            ValueError: ``turn`` is unknown.
        """
        if turn not in get_args(Turn):
            raise ValueError(f"turn {turn!r} is unknown; use one of {', '.join(get_args(Turn))}")
        self.split = split
        self.source = source
        self.turn = turn
        self.seed = seed

    @abstractmethod
    def _choose(self, choice: Choice) -> Rows:
        """Look at all rows, and raise ValueError where one has a fault or none is chosen."""

    @cached_property
    def rows(self) -> Rows:
        """The chosen rows."""
        return self._choose(Choice(self.split, self.source, self.turn != "as_written"))

    def prepare(self, chain: Any) -> None:
        """Look at all rows, so that faults are found before training."""
        _ = self.rows

    def size(self) -> int:
        """Number of chosen rows."""
        return len(self.rows)

    def conversation(self, index: int) -> Conversation:
        """Return conversation number ``index``."""
        round_number, position = divmod(index, len(self.rows))
        return self._turned(shuffled(position, len(self.rows), f"{self.seed} {round_number}"))

    def _turned(self, number: int) -> Conversation:
        row, conversation = self.rows.read(number)
        if self.turn == "as_written":
            return conversation
        wanted = captioned_medium(row)
        medium = next(
            medium
            for (_, part), medium in zip(row.media(), media_of(conversation), strict=True)
            if part is wanted
        )
        if self.turn == "medium_to_caption":
            return Conversation().user(medium).assistant(wanted["caption"])
        return Conversation().user(wanted["caption"]).assistant(medium)

    def provenance(self) -> dict[str, Any]:
        """Split and number of rows as well."""
        return super().provenance() | {"split": self.split, "rows": len(self.rows)}


def captioned_medium(row: Row) -> dict[str, Any]:
    """The first medium of a row that has a caption.

    Raises:
        ValueError: there is none.
    """
    for _, part in row.media():
        if part.get("caption"):
            return part
    raise ValueError("has no medium with a caption; use turn: as_written")


def media_of(conversation: Conversation) -> list[Medium]:
    """The media of all messages, in order."""
    return [medium for message in conversation.messages for medium in message.media]


def kept_array(recipe: tuple, build: Callable[[], np.ndarray]) -> np.ndarray:
    """An array that is built once for a recipe and kept in the user's cache.

    It is mapped into memory, so that only the pages in use are there.
    """
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    path = cache_dir() / "manifests" / f"{digest}.npy"
    if not path.exists():
        array = build()
        with atomic_path(path) as partial:
            np.save(partial, array)
    return np.load(path, mmap_mode="r")


NUM_ROUNDS = 4


def shuffled(index: int, size: int, seed: str) -> int:
    """Where a number goes in a random order of ``range(size)``, of which nothing is kept.

    A Feistel network permutes the numbers below the next power of four; what comes out too large
    goes in again.
    """
    num_bits = ((size - 1).bit_length() + 1) // 2
    mask = (1 << num_bits) - 1
    while True:
        left, right = index >> num_bits, index & mask
        for number in range(NUM_ROUNDS):
            word = hashlib.blake2b(f"{seed} {number} {right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(word) & mask)
        index = left << num_bits | right
        if index < size:
            return index
