"""One stage: what its options change, and that ranks and a single process mean the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from lightning import Callback, Trainer
from quiet_trainer import quiet_trainer
from tiny_chain import batch_of, exchange, tiny_chain
from torch import Tensor

from nextgpt.data.conversations import ConversationSource
from nextgpt.data.datamodule import ChainData
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts

PARTS = ["lora", "input_projection", "output_projections", "signal_rows"]


class Exchanges(ConversationSource):
    """Exchanges of all modalities in turn."""

    def conversation(self, index: int) -> Conversation:
        return exchange(list(Modality)[index % 4], seed=index % 3)


def test_a_part_can_have_a_learning_rate_of_its_own(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    rates = {"lora": 0.0, "signal_rows": 3e-3}
    stage = Stage(tiny_chain(tiny), PARTS, learning_rate=1e-3, learning_rates=rates)
    before = {
        part: [p.detach().clone() for p in parameters.values()]
        for part, parameters in stage.chain.trainable_parts().items()
    }
    trainer = quiet_trainer(tmp_path, 2, limit_val_batches=0)
    trainer.fit(stage, datamodule=ChainData([Exchanges()], batch_size=8))
    moved = {
        part: max(
            float((p - old).abs().max())
            for p, old in zip(parameters.values(), before[part], strict=True)
        )
        for part, parameters in stage.chain.trainable_parts().items()
        if part in PARTS
    }
    groups = trainer.optimizers[0].param_groups
    assert {group["name"]: group["initial_lr"] for group in groups} == {
        "input_projection": 1e-3,
        "signal_rows": 3e-3,
        "output_projections": 1e-3,
        "lora": 0.0,
    }
    assert {part for part, distance in moved.items() if not distance} == {"lora"}
    # What Adam has once moved by is at most the learning rate, and about that for some element.
    assert 2e-3 < moved["signal_rows"] < 3.1e-3


def test_a_learning_rate_of_a_part_that_does_not_train_is_refused(tiny: TinyParts) -> None:
    with pytest.raises(ValueError, match=r"names lora, which .* does not train; it trains signal"):
        Stage(tiny_chain(tiny), ["signal_rows"], learning_rates={"lora": 1e-4})


def test_checkpointed_activations_teach_the_same(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    taught = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        stage = Stage(tiny_chain(tiny), PARTS, activation_checkpointing=checkpointing)
        passes: list[bool] = []
        layer = stage.chain.language_model.llm.get_decoder().layers[0].mlp
        # The second pass ends inside of it, where nothing more is needed.
        layer.register_forward_pre_hook(lambda *_, passes=passes: passes.append(True))
        trainer = quiet_trainer(tmp_path, 3, limit_val_batches=0)
        trainer.fit(stage, datamodule=ChainData([Exchanges()], batch_size=4))
        assert len(passes) == (6 if checkpointing else 3)
        taught.append([p for p in stage.chain.parameters() if p.requires_grad])
    # Measured worst case 0.
    torch.testing.assert_close(taught[0], taught[1], atol=1e-6, rtol=0)


def test_bfloat16_trains_in_float32_and_stays_near(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        stage = Stage(tiny_chain(tiny), PARTS)
        trainer = quiet_trainer(tmp_path, 2, limit_val_batches=0, precision=precision)
        trainer.fit(stage, datamodule=ChainData([Exchanges()], batch_size=8))
        assert {p.dtype for p in stage.parameters() if p.requires_grad} == {torch.float32}
        losses[precision] = float(trainer.callback_metrics["loss"])
    # Measured difference 0.1%.
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.02)
    assert losses["bf16-mixed"] != losses["32-true"]


def test_the_losses_of_a_batch_are_logged_where_it_holds_something_for_them(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    stage = Stage(tiny_chain(tiny), PARTS, alignment_weight=0.5)
    stage.trainer = quiet_trainer(tmp_path, 1)
    batch = batch_of(stage.chain, [exchange("image"), exchange("text")])
    total, found = stage._total(stage._losses(batch))
    assert set(found) == {"cross_entropy", "alignment_image", "loss"}
    assert float(total) == pytest.approx(float(found["loss"]))
    expected = found["cross_entropy"] + 0.5 * found["alignment_image"]
    assert float(total) == pytest.approx(float(expected))


class Same(ConversationSource):
    """The same exchange again and again, so that any batch of it has its mean loss."""

    def __init__(self, modality: str) -> None:
        self.modality = modality

    def conversation(self, index: int) -> Conversation:
        return exchange(self.modality, seed=2)


class Gradients(Callback):
    """Keeps the gradients that a step is taken with."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, stage: Stage, optimizer: object) -> None:  # type: ignore[override]
        self.found = gradients(stage)


def gradients(stage: Stage) -> dict[str, Tensor]:
    """Gradients of all that trains, by name."""
    return {
        name: parameter.grad.clone()
        for name, parameter in stage.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("accumulate", [3, 6])
def test_a_step_of_sources_in_turn_goes_down_the_weighted_sum_of_their_losses(
    tiny: TinyParts, own_cache: Path, tmp_path: Path, accumulate: int
) -> None:
    modalities, weights = ["image", "text", "audio"], [1.0, 0.2, 0.03]
    torch.manual_seed(0)
    stage, kept = Stage(tiny_chain(tiny), PARTS), Gradients()
    trainer = quiet_trainer(
        tmp_path, 1, limit_val_batches=0, accumulate_grad_batches=accumulate, callbacks=[kept]
    )
    data = ChainData([*map(Same, modalities)], weights=weights, rule="in_turn", batch_size=2)
    trainer.fit(stage, datamodule=data)

    torch.manual_seed(0)
    explicit = Stage(tiny_chain(tiny), PARTS)
    explicit.trainer = quiet_trainer(tmp_path, 1)
    for modality, weight in zip(modalities, weights, strict=True):
        batch = batch_of(explicit.chain, [exchange(modality, seed=2)] * 2)
        total, _ = explicit._total(explicit._losses(batch))
        (weight * total).backward()
    expected = gradients(explicit)
    assert kept.found.keys() == expected.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in expected.values())
    for name, gradient in expected.items():
        # Of the largest element; measured worst case 4e-7, in float32.
        atol = 1e-5 * float(gradient.abs().max()) + 1e-7
        torch.testing.assert_close(kept.found[name], gradient, atol=atol, rtol=0)


@pytest.mark.parametrize(("accumulate", "sources"), [(4, 3), (1, 2)])
def test_a_step_that_leaves_out_a_source_is_refused(
    tiny: TinyParts, own_cache: Path, tmp_path: Path, accumulate: int, sources: int
) -> None:
    data = ChainData([Same("text")] * sources, rule="in_turn")
    trainer = quiet_trainer(tmp_path, 1, accumulate_grad_batches=accumulate)
    message = f"accumulate_grad_batches is {accumulate}, but {sources} training sources"
    with pytest.raises(ValueError, match=message):
        trainer.fit(Stage(tiny_chain(tiny), PARTS), datamodule=data)
