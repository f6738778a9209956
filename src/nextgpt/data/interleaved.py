"""Documents in which media and text take turns, as conversations that a model learns from.

A document becomes a conversation in the template ``interleaved``: its media are what is shown, the
text of each is the answer, which ends a chunk, ``<image>text<end><image>text<end>``. With that
the labels are those of OpenFlamingo: text that belongs to no medium is read but not learned, media
are never targets, the end of a chunk is.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt.data.manifest_conversations import ManifestConversations
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Part


@dataclass(frozen=True)
class Chunk:
    """A text and the medium that it is about, behind media that have no text of their own."""

    media: tuple[Medium, ...]
    text: str


def chunks(document: Sequence[Part], looks_ahead: bool = False) -> tuple[str, list[Chunk]]:
    """Say which medium each text of a document is about.

    Args:
        document: Texts and media in order.
        looks_ahead: Whether a text is about the next medium, in front of which it stands, and not
            about the one before.

    Returns:
        The text that stands in front of all media and is about none, and the chunks. Media behind
        the last chunk and, with ``looks_ahead``, text behind the last medium are left out.

    Source: arXiv:2204.14198 (Flamingo), appendix on M3W: the function phi.
    """
    texts, media = [""], []
    for part in document:
        if isinstance(part, str):
            texts[-1] += part
        else:
            media.append(part)
            texts.append("")
    texts = [text.strip() for text in texts]
    found, silent = [], []
    for medium, text in zip(media, texts[:-1] if looks_ahead else texts[1:], strict=True):
        silent.append(medium)
        if text:
            found.append(Chunk(tuple(silent), text))
            silent = []
    return "" if looks_ahead else texts[0], found


def window(
    lead: str,
    found: Sequence[Chunk],
    num_tokens: Callable[[str], int],
    max_tokens: int,
    max_media: int,
) -> Conversation:
    """Take as many chunks from the start as there is room for.

    The text before them comes along where the first chunk leaves room for it. Where that alone is
    too long, its text is cut, behind a sentence if one ends there. A medium takes one token.

    Args:
        lead: The text before.
        found: Chunks, one or more.
        num_tokens: Counts the tokens of a text.
        max_tokens: Tokens at most, with the first one of the sequence and the ends of chunks.
        max_media: Media at most; of a first chunk with more the last ones.
    """
    first = Chunk(found[0].media[-max_media:], found[0].text)
    room, more = max_tokens - 1, max_media
    text = cut(first.text, room - len(first.media) - 1, num_tokens)
    conversation = Conversation()
    for chunk in [Chunk(first.media, text), *found[1:]]:
        cost = len(chunk.media) + num_tokens(chunk.text) + 1
        if cost > room or len(chunk.media) > more:
            break
        room, more = room - cost, more - len(chunk.media)
        if not conversation.messages and lead and (cost := num_tokens(lead)) <= room:
            room -= cost
            conversation.user(lead, *chunk.media).assistant(chunk.text)
        else:
            conversation.user(*chunk.media).assistant(chunk.text)
    return conversation


def cut(text: str, room: int, num_tokens: Callable[[str], int]) -> str:
    """The longest start of a text that fits, of whole sentences if there is one, else of words."""
    if num_tokens(text) <= room:
        return text
    for end in (r"(?<=[.!?])\s+", r"\s+", ""):
        starts = [text[: match.start()] for match in re.finditer(end, text)]
        # The tokens of a start are hardly ever more than those of a longer one.
        low, high = 0, len(starts)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if num_tokens(starts[middle]) <= room else (low, middle)
        if low and starts[low - 1]:
            return starts[low - 1]
    return ""


class InterleavedDocuments(ManifestConversations):
    """Windows of the documents of a manifest: what stands in a row's messages, in order.

    Half of the windows take each text for one about the medium before it, half for one about the
    next. A window starts at a random medium that has a text.

    Source: arXiv:2204.14198 (Flamingo): 256 tokens and 5 pictures of M3W; labels of OpenFlamingo.
    """

    def __init__(
        self,
        manifest: Path,
        split: str = "train",
        source: str | None = None,
        max_tokens: int = 256,
        max_media: int = 5,
        precompute: bool = False,
        seed: int = 0,
    ) -> None:
        """Choose rows.

        Args:
            manifest: JSON lines, see docs/data.md.
            split: Which rows.
            source: Of this source; of all by default.
            max_tokens: Tokens of a window at most, where every medium is one.
            max_media: Media of a window at most.
            precompute: Compute the features of all rows before training, where they fit into
                memory; otherwise as they come.
            seed: Of the order and of the windows.

        Raises:
            ValueError: a window could not hold a medium and a word.
        """
        super().__init__(manifest, split, source, precompute=precompute, seed=seed)
        if max_media < 1 or max_tokens < max_media + 3:
            raise ValueError(
                f"max_tokens is {max_tokens} and max_media {max_media}: give 1 medium or more, and "
                "3 tokens more than media"
            )
        self.max_tokens = max_tokens
        self.max_media = max_media

    def prepare(self, chain: Any) -> None:
        """Build the index and find out how texts become tokens."""
        super().prepare(chain)
        self._tokenizer = chain.language_model.tokenizer

    def _num_tokens(self, text: str) -> int:
        return len(
            self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        )

    def conversation(self, index: int) -> Conversation:
        """Return window number ``index``.

        Raises:
            ValueError: the document has no medium that a text is about.
        """
        messages = super().conversation(index).messages
        document = [part for message in messages for part in message.parts]
        rng = random.Random(f"{self.seed} window {index}")
        ahead, behind = chunks(document, looks_ahead=True), chunks(document)
        lead, found = ahead if rng.random() < 0.5 else behind
        if not found:
            lead, found = ahead if ahead[1] else behind
        if not found:
            raise ValueError(
                f"{self.manifest}: a document has no medium with a text beside it ("
                f"{document!r:.60}); take it out"
            )
        start = rng.randrange(len(found))
        return window(
            "" if start else lead, found[start:], self._num_tokens, self.max_tokens, self.max_media
        )

    def captions(self) -> list[Medium]:
        """None: media are only shown."""
        return []

    def provenance(self) -> dict[str, Any]:
        """The size of windows as well."""
        return super().provenance() | {"max_tokens": self.max_tokens, "max_media": self.max_media}
