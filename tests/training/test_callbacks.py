"""Tests of what happens beside training."""

from pathlib import Path

import lightning
import torch
from quiet_trainer import quiet_trainer
from torch import Tensor
from torch.utils.data import DataLoader

from nextgpt.training.callbacks import FreshNoise


class Noisy(lightning.LightningModule):
    """Remembers its batches and the noise it drew for them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, float]] = []

    def training_step(self, batch: Tensor) -> Tensor:
        self.seen.append((int(batch), float(torch.rand(()))))
        return self.weight.square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_resumed_training_does_not_see_its_first_batches_and_noise_again(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"

    def run(steps: int, resumed: bool) -> list[tuple[int, float]]:
        lightning.seed_everything(0, verbose=False)
        module, data = Noisy(), DataLoader(torch.arange(1000), shuffle=True)
        trainer = quiet_trainer(tmp_path, steps, callbacks=[FreshNoise()])
        trainer.fit(module, data, ckpt_path=str(path) if resumed else None)
        trainer.save_checkpoint(path)
        return module.seen

    first, again = run(4, resumed=False), run(4, resumed=False)
    assert first == again  # The seed decides.
    second, third = run(8, resumed=True), run(12, resumed=True)
    assert len(first) == len(second) == len(third) == 4
    assert not set(first) & set(second) and not set(second) & set(third)
    batches = [batch for batch, _ in first + second + third]
    assert batches[4:8] != batches[:4] and batches[8:] != batches[4:8]
