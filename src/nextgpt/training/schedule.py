"""The optimizer that all recipes share."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from transformers import get_cosine_schedule_with_warmup


def adamw_with_cosine(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    learning_rate: float,
    total_steps: int,
    weight_decay: float = 0.01,
) -> OptimizerLRSchedulerConfig:
    """AdamW; 3% linear warm-up (at most 100 steps), then a cosine to zero, stepped per batch."""
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay
    )
    warmup = min(100, max(1, total_steps * 3 // 100))
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, total_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
