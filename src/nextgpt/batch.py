"""A batch of conversations as the chain takes it."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from nextgpt.layout import Layout
from nextgpt.modality import Modality


@dataclass
class ChainBatch:
    """Padded or packed sequences with the places of media.

    Attributes:
        input_ids: (B, T) int64, B rows.
        attention_mask: (B, T) int64, 1 where there is a token.
        labels: (B, T) int64, -100 where nothing is learned.
        slots: By modality, (n, 2) int64: row and first position of every medium seen.
        layouts: By modality, how every medium of ``slots`` is cut.
        texts: By modality, what is said about every medium of ``slots``.
        features: By modality, (V, N, D_enc) float32 of all views, medium by medium in the order of
            ``slots``.
        values: In the place of ``features`` where the encoder learns: what it takes, (V, ...).
        runs: By modality, (n, 2) int64: row and first position of every signal run.
        targets: By modality, (n, L, C) float32 target conditioning in the order of ``runs``.
        latents: By modality, (n, C, ...) float32 latents of the media in the order of ``runs``.
        position_ids: (B, T) int64 where rows hold several sequences; they start anew with each.
        weight: Factor of the loss.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    slots: dict[Modality, Tensor] = field(default_factory=dict)
    layouts: dict[Modality, list[Layout]] = field(default_factory=dict)
    texts: dict[Modality, list[str]] = field(default_factory=dict)
    features: dict[Modality, Tensor] = field(default_factory=dict)
    values: dict[Modality, Tensor] = field(default_factory=dict)
    runs: dict[Modality, Tensor] = field(default_factory=dict)
    targets: dict[Modality, Tensor] = field(default_factory=dict)
    latents: dict[Modality, Tensor] = field(default_factory=dict)
    position_ids: Tensor | None = None
    weight: float = 1.0

    def to(self, device: torch.device) -> "ChainBatch":
        """Copy to a device."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: moved(each) for key, each in value.items()}
            return value.to(device) if isinstance(value, Tensor) else value

        return ChainBatch(**{each.name: moved(getattr(self, each.name)) for each in fields(self)})
