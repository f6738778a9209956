"""A Lightning callback that writes down what a stage trained and what it left alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lightning
import torch


class Recorder(lightning.Callback):
    """Writes ``record.json`` when training ends; can break a run off on the way."""

    def __init__(self, folder: Path, die_at: int | None = None) -> None:
        """Choose where to write.

        Args:
            folder: Gets ``record.json``.
            die_at: Step after which the process is gone, as far as Lightning can tell.
        """
        self.folder = folder
        self.die_at = die_at
        self.losses: dict[int, float] = {}
        self.gradients: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Count what trains and fingerprint what does not."""
        self.trainable = {
            name: list(p.shape) for name, p in pl_module.named_parameters() if p.requires_grad
        }
        self.frozen = self._frozen(pl_module)
        self.before = self._trained(pl_module)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any
    ) -> None:
        """Gather the largest gradient of each element."""
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.abs()
                self.gradients[name] = torch.maximum(self.gradients.get(name, gradient), gradient)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *_: Any
    ) -> None:
        """Keep the loss."""
        self.losses[trainer.global_step] = float(outputs["loss"])
        if self.die_at == trainer.global_step:
            raise RuntimeError("killed by the test")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare and write."""
        after = self._trained(pl_module)
        record = {
            "losses": self.losses,
            "trainable": self.trainable,
            "frozen": len(self.frozen),
            "changed_although_frozen": [
                name
                for name, digest in self._frozen(pl_module).items()
                if digest != self.frozen[name]
            ],
            "unchanged_although_trained": [n for n in after if after[n] == self.before[n]],
            "without_gradient": [
                n for n in after if n not in self.gradients or not self.gradients[n].any()
            ],
            "gradients_elsewhere": sorted(set(self.gradients) - set(after)),
            "signal_rows_without_gradient": [
                row
                for name, gradient in self.gradients.items()
                if "signal_rows" in name
                for row in range(len(gradient))
                if not gradient[row].any()
            ],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "record.json").write_text(json.dumps(record))

    @staticmethod
    def _frozen(module: Any) -> dict[str, str]:
        state = dict(module.named_buffers()) | {
            name: p for name, p in module.named_parameters() if not p.requires_grad
        }
        return {name: _digest(value) for name, value in state.items()}

    @staticmethod
    def _trained(module: Any) -> dict[str, str]:
        return {name: _digest(p) for name, p in module.named_parameters() if p.requires_grad}


def _digest(value: torch.Tensor) -> str:
    raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(raw).hexdigest()
