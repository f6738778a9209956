"""Training conversations from manifests that are larger than memory."""

from __future__ import annotations

import hashlib
import os
from array import array
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from nextgpt.data.conversations import ConversationSource
from nextgpt.data.json_lines import numbered_lines, parsed
from nextgpt.data.rows import Row
from nextgpt.media import Medium
from nextgpt.media.base import atomic_path
from nextgpt.messages import Conversation
from nextgpt.sources import cache_dir

Turn = Literal["as_written", "medium_to_caption", "caption_to_medium"]


class RowIndex:
    """Where the chosen rows of a manifest are, so that each can be read alone.

    Every row is looked at once, when the index is built, and a faulty one is refused then. The
    index is a file in the user's cache, 16 bytes a row, of which only the pages in use are in
    memory; another size or time of the manifest gives another index.
    """

    def __init__(self, manifest: Path, split: str, source: str | None, captioned: bool) -> None:
        """Build the index, or take the one that is there.

        Args:
            manifest: JSON lines, see ``nextgpt.data.rows``.
            split: Of the rows.
            source: Of the rows; any where None.
            captioned: Whether every row must have a medium with a caption.

        Raises:
            ValueError: a line is no row, or there are no rows like these.
        """
        if not manifest.is_file():
            raise ValueError(f"{manifest}: no such file; `nextgpt convert data` makes manifests")
        self.manifest = manifest
        self.version = _version(manifest.stat())
        choice = (split, source, captioned)
        recipe = repr((str(manifest.resolve()), self.version, choice))
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        path = cache_dir() / "manifests" / f"{digest}.npy"
        if not path.exists():
            spans = self._spans(*choice)
            with atomic_path(path) as partial:
                np.save(partial, np.frombuffer(spans, np.uint64).reshape(-1, 2))
        self.spans = np.load(path, mmap_mode="r")
        if not len(self.spans):
            of = f"split {split!r}" + (f" and source {source!r}" if source else "")
            raise ValueError(f"{manifest}: no rows of {of} to learn from")

    def _spans(self, split: str, source: str | None, captioned: bool) -> array:
        """Start and length of every chosen row, in bytes."""
        spans = array("Q")
        for number, start, line in numbered_lines(self.manifest, bar=True):
            try:
                row = Row.from_json(parsed(line))
                if row.split != split or source not in (None, row.source):
                    continue
                if captioned:
                    captioned_medium(row)
            except ValueError as error:
                raise ValueError(f"{self.manifest}, line {number}: {error}") from error
            spans.extend((start, len(line)))
        return spans

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.spans)

    def __getitem__(self, number: int) -> Row:
        """Read a row.

        Raises:
            ValueError: the manifest was changed meanwhile.
        """
        start, length = map(int, self.spans[number])
        # Opened anew each time, so that processes that share this object do not share a place.
        with self.manifest.open("rb") as file:
            if _version(os.fstat(file.fileno())) != self.version:
                raise ValueError(f"{self.manifest}: changed since training began; start again")
            file.seek(start)
            return Row.from_json(parsed(file.read(length)))


def _version(facts: os.stat_result) -> tuple[int, int]:
    """What changes when a file does."""
    return facts.st_size, facts.st_mtime_ns


class ManifestConversations(ConversationSource):
    """The conversations of a manifest in random order, every one once a round.

    Number ``index`` is read when it is asked for and is always the same, so a run is resumed by a
    number and shared by ranks that take every n-th. Memory does not depend on the number of rows.
    """

    def __init__(
        self,
        manifest: Path,
        split: str = "train",
        source: str | None = None,
        turn: Turn = "as_written",
        precompute: bool = False,
        seed: int = 0,
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
            seed: Of the order.

        Raises:
            ValueError: ``turn`` is unknown.
        """
        if turn not in get_args(Turn):
            raise ValueError(f"turn {turn!r} is unknown; use one of {', '.join(get_args(Turn))}")
        self.manifest = manifest
        self.split = split
        self.source = source
        self.turn = turn
        self.precompute = precompute
        self.seed = seed

    @cached_property
    def rows(self) -> RowIndex:
        """The chosen rows."""
        captioned = self.turn != "as_written"
        return RowIndex(self.manifest, self.split, self.source, captioned)

    def files(self) -> list[Path]:
        """The manifest."""
        return [self.manifest]

    def prepare(self, chain: Any) -> None:
        """Build the index, which refuses a manifest with faults before training."""
        _ = self.rows

    def conversation(self, index: int) -> Conversation:
        """Return conversation number ``index``."""
        round_number, position = divmod(index, len(self.rows))
        return self._conversation(shuffled(position, len(self.rows), f"{self.seed} {round_number}"))

    def _conversation(self, number: int) -> Conversation:
        row = self.rows[number]
        conversation = row.conversation(self.manifest.parent)
        if self.turn == "as_written":
            return conversation
        wanted = captioned_medium(row)
        medium = next(
            medium
            for (_, part), medium in zip(row.media(), _media(conversation), strict=True)
            if part is wanted
        )
        if self.turn == "medium_to_caption":
            return Conversation().user(medium).assistant(wanted["caption"])
        return Conversation().user(wanted["caption"]).assistant(medium)

    def media(self) -> list[Medium]:
        """Media that are shown, if they are to be computed beforehand."""
        if not self.precompute or self.turn == "caption_to_medium":
            return []
        return [medium for each in self._all() for medium in _media(each)]

    def captions(self) -> list[Medium]:
        """Media that are asked for, if their conditioning is to be computed beforehand."""
        if not self.precompute or self.turn == "medium_to_caption":
            return []
        answers = (each.messages for each in self._all())
        messages = (message for messages in answers for message in messages)
        return [m for message in messages if message.role == "assistant" for m in message.media]

    def _all(self) -> list[Conversation]:
        return [self._conversation(number) for number in range(len(self.rows))]

    def provenance(self) -> dict[str, Any]:
        """Split, number of rows and hash of the manifest as well."""
        with self.manifest.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        facts = {"split": self.split, "rows": len(self.rows), "manifest": digest}
        return super().provenance() | facts


def captioned_medium(row: Row) -> dict[str, Any]:
    """The first medium of a row that has a caption.

    Raises:
        ValueError: there is none.
    """
    for _, part in row.media():
        if part.get("caption"):
            return part
    raise ValueError("has no medium with a caption; use turn: as_written")


def _media(conversation: Conversation) -> list[Medium]:
    return [medium for message in conversation.messages for medium in message.media]


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
