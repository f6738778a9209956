"""What a model need not compute twice: features of media, and the start of a conversation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from nextgpt.media import Medium
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.prompting import SequencePlan


class Memory:
    """Features by the content of media, and the language model's caches of conversations.

    It is true as long as the model's weights are the same, and changes no bit of a reply: prompts
    are read turn by turn whether or not some are remembered, and what was written token by token
    is read again. Several threads may use it.

    Args:
        num_media: Media whose features are kept, those used last.
        num_conversations: Conversations whose caches are kept: each holds keys and values of every
            token, 46 kB a token with the micro model, 0.5 MB with 7 billion parameters in half
            precision.
    """

    def __init__(self, num_media: int = 64, num_conversations: int = 2) -> None:
        self.num_media = num_media
        self.num_conversations = num_conversations
        self._features: OrderedDict[tuple[Modality, str], Tensor] = OrderedDict()
        self._read: list[tuple[Prompt, Any]] = []
        self._lock = threading.Lock()

    def features(self, model: NextGPTModel, modality: Modality, media: list[Medium]) -> Tensor:
        """Encode media of one modality, (V, N, D_enc); those seen before are looked up.

        Each is encoded by itself, so that its features do not depend on the others' company.
        """
        found = []
        for medium in media:
            key = (modality, medium.content_hash())
            with self._lock:
                known = self._features.get(key)
            if known is None:
                [known] = model.encode([medium])
            with self._lock:
                self._features[key] = known
                self._features.move_to_end(key)
                if len(self._features) > self.num_media:
                    self._features.popitem(last=False)
            found.append(known)
        return torch.cat(found)

    def recall(self, prompt: Prompt) -> tuple[int, Any]:
        """Take out the cache that holds the most turns from the start of a prompt.

        Returns:
            The number of tokens it holds, and a cache of transformers; 0 and None where nothing is
            known.
        """
        with self._lock:
            lengths = [prompt.shared(read) for read, _ in self._read]
            length = max(lengths, default=0)
            if length == 0:
                return 0, None
            read, cache = self._read.pop(lengths.index(length))
        cache.crop(length - len(read.names))
        return length, cache

    def keep(self, prompt: Prompt, cache: Any) -> None:
        """Keep the cache of a prompt, less what is behind it."""
        if (surplus := cache.get_seq_length() - len(prompt.names)) < 0:
            return
        cache.crop(-surplus)
        with self._lock:
            self._read.append((prompt, cache))
            del self._read[: -self.num_conversations]


@dataclass(frozen=True)
class Prompt:
    """What stands at each position of a plan, and where its answers start."""

    names: list[Hashable]
    """A token, or a part of a medium's features, each."""
    answers: list[int]

    @classmethod
    def of(cls, plan: SequencePlan) -> Self:
        """Name what stands where in a plan for an answer."""
        names: list[Hashable] = list(plan.input_ids.tolist())
        for slot in plan.slots:
            content = slot.medium.content_hash()
            for offset in range(slot.length):
                names[slot.start + offset] = (content, offset)
        return cls(names, plan.answers)

    @property
    def turns(self) -> list[tuple[int, int]]:
        """Start and end of what is read at a time: an answer, and all up to the next one."""
        return list(pairwise([0, *self.answers]))

    def shared(self, other: Prompt) -> int:
        """Count the tokens of the whole turns that both start with; the last is always read."""
        length = 0
        for ours, theirs in zip(self.turns[:-1], other.turns, strict=False):
            if ours != theirs or self.names[slice(*ours)] != other.names[slice(*theirs)]:
                break
            length = ours[1]
        return length
