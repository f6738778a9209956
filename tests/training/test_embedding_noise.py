"""Noise on the words' embeddings: while a stage trains, and at no other time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from quiet_trainer import quiet_trainer
from tiny_chain import SameExchange, tiny_chain

from nextgpt.data.datamodule import ChainData
from nextgpt.modality import Modality
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts


def test_embeddings_are_noisy_in_training_alone(tiny: TinyParts, tmp_path: Path) -> None:
    stage = Stage(tiny_chain(tiny), ["lora"], learning_rate=0.0, embedding_noise=5.0)
    language_model = stage.chain.language_model
    read: list[tuple[bool, torch.Tensor]] = []

    def keep(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        read.append((torch.is_grad_enabled(), arguments[0].detach().clone()))

    language_model.register_forward_pre_hook(keep)
    data = ChainData([SameExchange()], [SameExchange()], batch_size=1)
    trainer = quiet_trainer(tmp_path, 2, val_check_interval=1, limit_val_batches=1)
    trainer.fit(stage, datamodule=data)
    first, second = (embeds for trains, embeds in read if trains)
    clean, again = (embeds for trains, embeds in read if not trains)
    assert torch.equal(clean, again)
    words = first != clean
    assert words.any(dim=-1).float().mean() > 0.5 and not torch.equal(first, second)
    bound = 5.0 / (clean.shape[1] * clean.shape[2]) ** 0.5
    assert 0.5 * bound < (first - clean).abs().max() <= 1.001 * bound
    # Signal tokens are no words: what the output projections read is exact.
    ids = language_model.signals.run(Modality.IMAGE)
    rows = language_model.signal_rows["input"][: len(ids)].detach()
    exact = [(embeds[0] == row).all(dim=-1).any() for embeds in (first, second) for row in rows]
    assert all(exact)
    # The trained model answers without noise.
    assert not language_model.llm.get_input_embeddings()._forward_hooks
