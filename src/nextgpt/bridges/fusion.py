"""Fusions: modules inside of the language model that look at media while it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        kept: What a fusion makes of the tokens alone, for all windows while nothing trains.
    """

    tokens: Tensor
    times: Tensor
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, rows: Any) -> MediaContext:
        """Choose rows."""
        return MediaContext(self.tokens[rows], self.times[rows])

    def window(self, start: int, length: int) -> MediaContext:
        """Choose positions; behind the last one all media have been seen."""
        times = self.times[:, start : start + length]
        behind = self.times.amax(dim=1, keepdim=True).expand(-1, length - times.shape[1])
        return MediaContext(self.tokens, torch.cat([times, behind], dim=1), self.kept)


class Fusion(nn.Module):
    """Base of all fusions: wraps the layers of a causal language model in place.

    ``install`` hooks it into the model and ``remove`` takes it out again, which leaves the model
    bit for bit as it was. While it is installed, every pass of the model reads ``context``, and is
    that of the bare model where there is none.
    """

    media_size: int
    """Width of the connector's tokens that it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.context: MediaContext | None = None
        """Of the pass that is computed, also while its backward pass computes layers anew."""
        # NOTE: in a tuple, so that the model's parameters are not registered a second time.
        self._decoder: tuple[nn.Module, ...] = ()

    def install(self, llm: nn.Module) -> None:
        """Hook into a model of transformers.

        Raises:
            ValueError: it is installed already, another fusion is, or the model has no list of
                decoder layers.
        """
        decoder: Any = getattr(llm, "get_decoder", lambda: None)()
        layers = getattr(decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise ValueError(
                f"{type(llm).__name__} has no list of decoder layers that "
                f"{type(self).__name__} could hook into; take a language model like Llama"
            )
        if self._decoder:
            raise ValueError(f"this {type(self).__name__} is installed already; remove it first")
        if (other := vars(decoder).get("fusion")) is not None:
            raise ValueError(
                f"{type(llm).__name__} has a {type(other).__name__} already; remove it before "
                f"{type(self).__name__} is installed"
            )
        self._attach(layers)
        object.__setattr__(decoder, "fusion", self)
        self._decoder = (decoder,)

    def remove(self) -> None:
        """Take all hooks out again, if it is installed."""
        for decoder in self._decoder:
            self._detach()
            object.__delattr__(decoder, "fusion")
        self._decoder = ()

    def _attach(self, layers: nn.ModuleList) -> None:
        """Hook into the decoder's layers, or raise ValueError and leave them alone."""
        raise NotImplementedError

    def _detach(self) -> None:
        """Undo ``_attach``."""
        raise NotImplementedError
