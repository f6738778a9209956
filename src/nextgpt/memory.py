"""What a model need not compute twice: features of media, and the start of a conversation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from nextgpt.media import Medium
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.prompting import SequencePlan


class Memory:
    """Features by the content of media, and the language model's caches of conversations.

    It is true as long as the model's weights are the same. Several threads may use it.

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
        self._read: list[tuple[list[Hashable], Any]] = []
        self._lock = threading.Lock()

    def features(self, model: NextGPTModel, modality: Modality, media: list[Medium]) -> Tensor:
        """Encode media of one modality, (n, N, D_enc); those seen before are looked up."""
        keys = [(modality, medium.content_hash()) for medium in media]
        with self._lock:
            found = {key: self._features[key] for key in keys if key in self._features}
        new = {key: medium for key, medium in zip(keys, media, strict=True) if key not in found}
        if new:
            tensors = [model.encoder.preprocess(modality, medium) for medium in new.values()]
            encoded = model.encoder.encode(modality, torch.stack(tensors).to(model.device))
            found |= dict(zip(new, encoded, strict=True))
        with self._lock:
            for key in keys:
                self._features[key] = found[key]
                self._features.move_to_end(key)
            while len(self._features) > self.num_media:
                self._features.popitem(last=False)
        return torch.stack([found[key] for key in keys])

    def recall(self, prompt: list[Hashable]) -> tuple[int, Any]:
        """Take out the cache that holds the longest start of a prompt.

        Returns:
            The number of tokens it holds, fewer than the prompt's, and a cache of transformers;
            0 and None where nothing is known.
        """
        with self._lock:
            lengths = [_shared(prompt[:-1], read) for read, _ in self._read]
            length = max(lengths, default=0)
            if length == 0:
                return 0, None
            read, cache = self._read.pop(lengths.index(length))
        cache.crop(length - len(read))
        return length, cache

    def keep(self, read: list[Hashable], cache: Any) -> None:
        """Keep the cache of everything that was read, the prompt and the reply."""
        with self._lock:
            self._read.append((read, cache))
            del self._read[: -self.num_conversations]


def prompt_of(plan: SequencePlan) -> list[Hashable]:
    """Name what stands at each position of a plan: a token, or a part of a medium's features."""
    names: list[Hashable] = list(plan.input_ids.tolist())
    for slot in plan.slots:
        content = slot.medium.content_hash()
        for offset in range(slot.length):
            names[slot.start + offset] = (content, offset)
    return names


def _shared(prompt: list[Hashable], read: list[Hashable]) -> int:
    """Count how many names at the start are the same."""
    pairs = zip(prompt, read, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
