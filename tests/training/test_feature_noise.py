"""Noise on the encoder's features: while a stage trains, and at no other time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quiet_trainer import quiet_trainer
from tiny_chain import SameExchange, tiny_chain

from nextgpt.data.datamodule import ChainData
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts


def test_features_are_noisy_in_training_alone(tiny: TinyParts, tmp_path: Path) -> None:
    stage = Stage(tiny_chain(tiny), ["input_projection"], learning_rate=0.0, feature_noise=0.5)
    read: list[tuple[bool, torch.Tensor]] = []

    def keep(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        read.append((torch.is_grad_enabled(), arguments[0].detach().clone()))

    stage.chain.input_projection.register_forward_pre_hook(keep)
    data = ChainData([SameExchange()], [SameExchange()], batch_size=4)
    trainer = quiet_trainer(tmp_path, 2, val_check_interval=1, limit_val_batches=1)
    trainer.fit(stage, datamodule=data)
    first, second = (features for trains, features in read if trains)
    clean, again = (features for trains, features in read if not trains)
    assert torch.equal(clean, again)
    assert not torch.equal(first, second)
    # In units of the features' own size, whatever the encoder makes that.
    noise = torch.cat([first, second]) - clean[:1]
    assert noise.std().item() == pytest.approx(0.5 * clean.square().mean().sqrt().item(), rel=0.2)
