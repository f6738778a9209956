"""Fusions: modules inside of the language model that look at media while it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MediaContext:
    """The media of a batch beside its sequences: all that a fusion learns of them.

    Shapes: B rows, T positions, K media of the row that has most, M tokens a medium, D_media width.

    Attributes:
        tokens: (B, K, M, D_media) what the connector makes of the media, zeros where a row has
            fewer than K.
        times: (B, T) int64, media of the row that start at this position or before: 0 where none
            has been seen, k where the k-th is the last.
    """

    tokens: Tensor
    times: Tensor

    def __getitem__(self, rows: Any) -> MediaContext:
        """Choose rows."""
        return MediaContext(self.tokens[rows], self.times[rows])

    def window(self, start: int, length: int) -> MediaContext:
        """Choose positions; behind the last one all media have been seen."""
        times = self.times[:, start : start + length]
        behind = self.times.amax(dim=1, keepdim=True).expand(-1, length - times.shape[1])
        return MediaContext(self.tokens, torch.cat([times, behind], dim=1))


class Fusion(nn.Module):
    """Base of all fusions: wraps the layers of a causal language model in place.

    ``install`` hooks it into the model and ``remove`` takes it out again, which leaves the model as
    it was, bit for bit. While it is installed, every pass of the model reads ``context``.
    """

    media_size: int
    """Width of the connector's tokens that it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.context: MediaContext | None = None
        """Of the pass that is computed, also while its backward pass computes layers anew."""

    def install(self, llm: nn.Module) -> None:
        """Hook into a model of transformers.

        Raises:
            ValueError: it is installed already, another fusion is, or the model has no list of
                decoder layers.
        """
        raise NotImplementedError

    def remove(self) -> None:
        """Take all hooks out again."""
        raise NotImplementedError
