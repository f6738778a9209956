"""A Lightning callback that kills one rank of a run, as a lost machine would."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning


class RankKiller(lightning.Callback):
    """Kills the process of a rank behind a step, without a word to the others."""

    def __init__(self, rank: int, step: int) -> None:
        """Choose whom and when.

        Args:
            rank: Global rank of the process.
            step: Steps that it finishes.
        """
        self.rank, self.step = rank, step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Kill."""
        if (trainer.global_rank, trainer.global_step) == (self.rank, self.step):
            os.kill(os.getpid(), signal.SIGKILL)
