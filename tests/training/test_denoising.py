"""The denoising loss in a stage: it teaches the projections and leaves the decoders as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quiet_trainer import quiet_trainer
from tiny_chain import medium, tiny_chain
from torch import Tensor

from nextgpt.batch import ChainBatch
from nextgpt.data.conversations import ConversationSource
from nextgpt.data.datamodule import ChainData
from nextgpt.media import Medium
from nextgpt.messages import Conversation
from nextgpt.modality import MODALITIES, Modality
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts


class Exchanges(ConversationSource):
    """One reply with a medium of each modality, again and again."""

    def conversation(self, index: int) -> Conversation:
        return Conversation().user("Make these").assistant(*self.captions())

    def captions(self) -> list[Medium]:
        return [medium(modality, 1) for modality in MODALITIES]


class Watched(Stage):
    """A stage that keeps its batches, its losses and the gradients of its projections."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batches: list[ChainBatch] = []
        self.logged: list[dict[str, float]] = []
        self.taught: set[Modality] = set()

    def training_step(self, batch: ChainBatch) -> Tensor | None:
        self.batches.append(batch)
        return super().training_step(batch)

    def log_dict(self, dictionary: Any, *args: Any, **options: Any) -> None:
        self.logged.append({name: float(value) for name, value in dictionary.items()})
        super().log_dict(dictionary, *args, **options)

    def on_after_backward(self) -> None:
        for modality, projection in self.chain.output_projections.items():
            if any(p.grad is not None and p.grad.any() for p in projection.parameters()):
                self.taught.add(Modality(modality))


class SameNoise(Watched):
    """One that takes the same noise away at every step, as validation does."""

    def _losses(self, batch: ChainBatch, generator: Any = None) -> dict[str, Tensor]:
        return super()._losses(batch, torch.Generator().manual_seed(0))


def trained(
    tiny: TinyParts,
    folder: Path,
    steps: int,
    interval: int = 1,
    stage_type: type[Watched] = Watched,
    **options: Any,
) -> Watched:
    data_options = {
        name: options.pop(name) for name in ("num_conversations", "cache") if name in options
    }
    stage = stage_type(tiny_chain(tiny), ["output_projections"], **options)
    trainer = quiet_trainer(
        folder,
        steps,
        limit_val_batches=2,
        check_val_every_n_epoch=None,
        val_check_interval=interval,
    )
    data = ChainData([Exchanges()], [Exchanges()], batch_size=2, num_validation=2, **data_options)
    trainer.fit(stage, datamodule=data)
    return stage


def weights_of(stage: Stage) -> dict[str, Tensor]:
    """Every weight of what is loaded of the decoders."""
    return {
        f"{modality}.{part}.{name}": parameter
        for modality, decoder in stage.chain.decoders.items()
        for part, module in decoder._components.items()
        if isinstance(module, torch.nn.Module)
        for name, parameter in module.named_parameters()
    }


@pytest.mark.parametrize("num_conversations", [None, 16])
def test_denoising_alone_teaches_the_projections_of_all_modalities(
    tiny: TinyParts, own_cache: Path, tmp_path: Path, num_conversations: int | None
) -> None:
    stage = trained(
        tiny,
        tmp_path,
        2,
        alignment_weight=0.0,
        denoising_weight=1.0,
        num_conversations=num_conversations,
    )
    assert stage.taught == set(MODALITIES)
    names = {f"denoising_{modality}" for modality in MODALITIES}
    training = [losses for losses in stage.logged if "validation/loss" not in losses]
    assert len(training) == 2 and all(names <= set(losses) for losses in training)
    loaded = weights_of(stage)
    assert sum(name.endswith(".unet.conv_in.weight") for name in loaded) == len(MODALITIES)
    assert not any(p.requires_grad or p.grad is not None for p in loaded.values())
    fresh = trained(tiny, tmp_path, 1, denoising_weight=1.0)
    for name, parameter in weights_of(fresh).items():
        assert ".unet." not in name or torch.equal(parameter, loaded[name]), name


def test_the_denoising_loss_falls(tiny: TinyParts, own_cache: Path, tmp_path: Path) -> None:
    options = {"alignment_weight": 0.0, "denoising_weight": 1.0, "learning_rate": 0.01}
    stage = trained(tiny, tmp_path, 12, interval=4, stage_type=SameNoise, **options)
    validated = [losses for losses in stage.logged if "validation/loss" in losses]
    for modality in MODALITIES:
        course = [losses[f"validation/denoising_{modality}"] for losses in validated]
        assert len(course) == 3 and course == sorted(course, reverse=True), modality


def test_the_weight_counts_beside_the_other_losses(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    stage = trained(tiny, tmp_path, 1, alignment_weight=2.0, denoising_weight=3.0)
    losses = next(losses for losses in stage.logged if "validation/loss" in losses)
    alignment = sum(losses[f"validation/alignment_{modality}"] for modality in MODALITIES)
    denoising = sum(losses[f"validation/denoising_{modality}"] for modality in MODALITIES)
    expected = losses["validation/cross_entropy"] + 2 * alignment + 3 * denoising
    assert losses["validation/loss"] == pytest.approx(expected, rel=1e-5)


def test_without_a_weight_neither_latents_nor_the_unets_are_there(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    stage = trained(tiny, tmp_path, 1)
    assert not any(batch.latents for batch in stage.batches)
    for decoder in stage.chain.decoders.values():
        assert set(decoder._components) <= {"tokenizer", "text_encoder"}
    assert not any("denoising" in name for losses in stage.logged for name in losses)


def test_latents_are_computed_once_or_for_every_batch(
    tiny: TinyParts, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = trained(tiny, tmp_path, 1, denoising_weight=1.0)
    anew = trained(tiny, tmp_path, 1, denoising_weight=1.0, cache=None)
    half = trained(tiny, tmp_path, 1, denoising_weight=1.0, cache="float16")
    for modality in MODALITIES:
        latents = [stage.batches[0].latents[modality] for stage in (kept, anew, half)]
        assert torch.allclose(latents[0], latents[1], atol=1e-6)  # measured 1e-7
        assert not torch.equal(latents[0], latents[2])
        assert torch.allclose(latents[0], latents[2], rtol=1e-3, atol=1e-6)
    for decoder_class in {type(decoder) for decoder in kept.chain.decoders.values()}:
        monkeypatch.setattr(decoder_class, "latents", None)
    again = trained(tiny, tmp_path, 1, denoising_weight=1.0)
    assert torch.equal(
        again.batches[0].latents[Modality.IMAGE], kept.batches[0].latents[Modality.IMAGE]
    )
