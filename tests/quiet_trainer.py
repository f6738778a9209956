"""A trainer for a few steps on the processor, that writes and prints nothing."""

from pathlib import Path
from typing import Any

import lightning


def quiet_trainer(folder: Path, max_steps: int, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
