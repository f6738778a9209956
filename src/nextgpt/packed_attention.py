"""Attention for rows that hold several sequences: each is attended to by itself."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

NAME = "by_sequence"


def register() -> None:
    """Make transformers know the kind of attention ``NAME``."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def sequence_lengths(position_ids: Tensor) -> list[list[int]]:
    """Lengths of the sequences of every row of (B, T) positions, which start anew with each."""
    lengths = []
    for row in position_ids == 0:
        starts = row.nonzero().flatten().tolist()
        assert starts and starts[0] == 0, "a row starts with a sequence"
        lengths.append([end - start for start, end in pairwise([*starts, len(row)])])
    return lengths


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sequence_lengths: list[list[int]] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend causally inside of every sequence; without lengths, as SDPA of transformers does.

    Shapes: B rows, H heads, T positions, D width of a head.

    Args:
        module: The layer's attention.
        query: (B, H, T, D).
        key: (B, H or fewer, T, D).
        value: As ``key``.
        attention_mask: Not looked at where lengths are given.
        sequence_lengths: Of every row, T in all.
        options: Of SDPA.

    Returns:
        (B, T, H, D), and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if sequence_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    rows = []
    for row, lengths in enumerate(sequence_lengths):
        parts = [each[row : row + 1].split(lengths, dim=2) for each in (query, key, value)]
        attended = [
            sdpa_attention_forward(module, *part, None, **options)[0]
            for part in zip(*parts, strict=True)
        ]
        rows.append(torch.cat(attended, dim=1))
    return torch.cat(rows), None
