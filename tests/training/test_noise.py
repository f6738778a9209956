"""Noise on the words' embeddings and on features: while a stage trains, and at no other time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quiet_trainer import quiet_trainer
from tiny_chain import SameExchange, tiny_chain
from torch import Tensor, nn

from nextgpt.data.datamodule import ChainData
from nextgpt.modality import Modality
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts


def read_by(module: nn.Module, stage: Stage, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """What a module reads in two steps of training and, twice the same, in validation."""
    read: list[tuple[bool, Tensor]] = []

    def keep(_: Any, arguments: tuple[Tensor, ...]) -> None:
        read.append((torch.is_grad_enabled(), arguments[0].detach().clone()))

    module.register_forward_pre_hook(keep)
    data = ChainData([SameExchange()], [SameExchange()], batch_size=16)
    trainer = quiet_trainer(folder, 2, val_check_interval=1, limit_val_batches=1)
    trainer.fit(stage, datamodule=data)
    first, second = (tensor for trains, tensor in read if trains)
    clean, again = (tensor for trains, tensor in read if not trains)
    assert torch.equal(clean, again)
    assert not torch.equal(first, second)
    return first, second, clean


def test_embeddings_are_noisy_in_training_alone(tiny: TinyParts, tmp_path: Path) -> None:
    stage = Stage(tiny_chain(tiny), ["lora"], learning_rate=0.0, embedding_noise=5.0)
    language_model = stage.chain.language_model
    first, second, clean = read_by(language_model, stage, tmp_path)
    assert (first != clean).any(dim=-1).float().mean() > 0.5
    bound = 5.0 / (clean.shape[1] * clean.shape[2]) ** 0.5
    assert 0.5 * bound < (first - clean).abs().max() <= 1.001 * bound
    # Signal tokens are no words: what the output projections read is exact.
    ids = language_model.signals.run(Modality.IMAGE)
    rows = language_model.signal_rows["input"][: len(ids)].detach()
    exact = [(embeds[0] == row).all(dim=-1).any() for embeds in (first, second) for row in rows]
    assert all(exact)
    # The trained model answers without noise.
    assert not language_model.llm.get_input_embeddings()._forward_hooks


def test_features_are_noisy_in_training_alone(tiny: TinyParts, tmp_path: Path) -> None:
    stage = Stage(tiny_chain(tiny), ["input_projection"], learning_rate=0.0, feature_noise=0.5)
    first, second, clean = read_by(stage.chain.input_projection, stage, tmp_path)
    noise = torch.stack([first, second]) - clean
    # In units of the features' own size, whatever the encoder makes that.
    assert noise.std().item() == pytest.approx(0.5 * clean.square().mean().sqrt().item(), rel=0.2)


def test_noise_on_the_features_of_an_encoder_that_trains_is_refused(tiny: TinyParts) -> None:
    with pytest.raises(ValueError, match="leave feature_noise out"):
        Stage(tiny_chain(tiny), ["encoder"], feature_noise=0.5)
