"""Training conversations out of rows that are larger than memory, wherever the rows are kept."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from nextgpt.data.answer_formats import AnswerFormat, known_format, with_format
from nextgpt.data.conversations import ConversationSource
from nextgpt.data.rows import Row
from nextgpt.media import Medium
from nextgpt.media.base import atomic_path
from nextgpt.messages import Conversation
from nextgpt.sources import cache_dir

Turn = Literal["as_written", "medium_to_caption", "caption_to_medium"]

FORMAT_KEY = "answer_format"
"""Key of a row's ``extra``."""


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
            ValueError: it is, and should have a medium with a caption, or its answer's format is
                unknown.
        """
        if row.split != self.split or self.source not in (None, row.source):
            return False
        if self.captioned:
            captioned_medium(row)
        elif row.extra.get(FORMAT_KEY) is not None:
            known_format(row.extra[FORMAT_KEY])
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

    def __init__(
        self,
        split: str,
        source: str | None,
        turn: Turn,
        seed: int,
        answer_format: AnswerFormat | None,
        shuffle_first_turn: bool,
    ) -> None:
        """Choose rows.

        Args:
            split: Which rows.
            source: Of this source; of all where None.
            turn: What becomes of a row: the conversation as it is written; its first medium with a
                caption, then the caption as the answer (``medium_to_caption``, for encode_align);
                or the caption, then the medium (``caption_to_medium``, for decode_align).
            seed: Of the order and of first turns.
            answer_format: Put the prompt of this format below the question of rows that do not
                name another one.
            shuffle_first_turn: Let the medium of a first question stand before its text or behind
                it at random.

        Raises:
            ValueError: ``turn`` or ``answer_format`` is unknown, or there are no questions.
        """
        if turn not in get_args(Turn):
            raise ValueError(f"turn {turn!r} is unknown; use one of {', '.join(get_args(Turn))}")
        if turn != "as_written" and (answer_format or shuffle_first_turn):
            raise ValueError(
                f"answer_format and shuffle_first_turn are of questions, of which turn: {turn} has "
                "none; use turn: as_written"
            )
        if answer_format is not None:
            known_format(answer_format)
        self.split = split
        self.source = source
        self.turn = turn
        self.seed = seed
        self.answer_format = answer_format
        self.shuffle_first_turn = shuffle_first_turn

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
        number = shuffled(position, len(self.rows), f"{self.seed} {round_number}")
        conversation = self._turned(number)
        if self.shuffle_first_turn:
            behind = random.Random(f"{self.seed} first turn {index}").random() < 0.5
            place_first_medium(conversation, behind)
        return conversation

    def _turned(self, number: int) -> Conversation:
        row, conversation = self.rows.read(number)
        if self.turn == "as_written":
            kind = row.extra.get(FORMAT_KEY, self.answer_format)
            if kind is not None:
                ask_for(conversation, kind)
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


def ask_for(conversation: Conversation, kind: AnswerFormat) -> None:
    """Put the prompt of a format below the user's first text; behind the media if there is none."""
    asked = [message for message in conversation.messages if message.role == "user"]
    for message in asked:
        for number, part in enumerate(message.parts):
            if isinstance(part, str):
                message.parts[number] = with_format(part, kind)
                return
    for message in asked[:1]:
        message.parts.append(with_format("", kind))


def place_first_medium(conversation: Conversation, behind: bool) -> None:
    """Let the medium stand before or behind the text of the user's first message.

    Line feeds between them stay between them. A message of other parts than one medium and one text
    is left as it is.
    """
    for message in [each for each in conversation.messages if each.role == "user"][:1]:
        texts = [part for part in message.parts if isinstance(part, str)]
        if len(texts) != 1 or len(message.media) != 1:
            return
        text = texts[0].strip("\n")
        gap = "\n" if text != texts[0] else ""
        message.parts = [text + gap, *message.media] if behind else [*message.media, gap + text]


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
