"""What the language model said before its adapter: a stage holds it to that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from quiet_trainer import quiet_trainer
from tiny_chain import SameExchange, tiny_chain

from nextgpt.collate import collate
from nextgpt.data.datamodule import ChainData
from nextgpt.data.own_words import OwnWords
from nextgpt.losses import divergence
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts

NUM_STEPS = 30


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NEXTGPT_CACHE", str(tmp_path))
    yield


def trained(tiny: TinyParts, folder: Path, keep_weight: float, **more: float) -> dict[str, float]:
    """Train an adapter on one exchange; returns what was logged last."""
    torch.manual_seed(0)
    stage = Stage(
        tiny_chain(tiny),
        ["lora"],
        **{"learning_rate": 1e-2, **more},
        keeps=OwnWords(num_texts=8, num_tokens=8),
        keep_weight=keep_weight,
        keep_batch_size=8,
    )
    trainer = quiet_trainer(folder, NUM_STEPS)
    trainer.fit(stage, datamodule=ChainData([SameExchange()], batch_size=1))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_stage_that_keeps_drifts_less_and_learns_all_the_same(
    tiny: TinyParts, tmp_path: Path
) -> None:
    before = trained(tiny, tmp_path, 0.0, learning_rate=0.0)
    free, held = (trained(tiny, tmp_path, weight) for weight in (0.0, 30.0))
    # Signal tokens, which do not train here, are a part of it that stays.
    assert held["drift"] - before["drift"] < (free["drift"] - before["drift"]) / 2
    assert held["cross_entropy"] < before["cross_entropy"]


def test_a_stage_without_an_adapter_cannot_keep(tiny: TinyParts) -> None:
    with pytest.raises(ValueError, match="keeps holds an adapter .* add lora to trains"):
        Stage(tiny_chain(tiny), ["output_projections"], keeps=OwnWords())


def test_an_adapter_that_says_nothing_drifts_by_the_signal_tokens_alone(tiny: TinyParts) -> None:
    chain = tiny_chain(tiny)
    chain.set_trainable(["lora"])
    words = OwnWords(num_texts=4, num_tokens=8)
    words.prepare(chain)
    plans = [chain.prompter.training_plan(words.conversation(index)) for index in range(3)]
    batch = collate(plans, lambda *_: torch.zeros(0))
    logits, frozen = chain.drift(batch)
    assert torch.equal(logits[:, : frozen.shape[1]], frozen) and not frozen.requires_grad
    assert len(logits) == sum(len(plan.input_ids) - 1 for plan in plans)
    signals = logits.softmax(-1)[:, frozen.shape[1] :].sum(-1)
    assert float(divergence(logits, frozen)) == pytest.approx(float(-(1 - signals).log().mean()))
