"""Output projections behind a language model that does not change: its states are found once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quiet_trainer import quiet_trainer
from tiny_chain import exchange, tiny_chain
from torch import Tensor

from nextgpt.data.batches import SimilarLengths
from nextgpt.data.conversations import ConversationSource
from nextgpt.data.datamodule import ChainData
from nextgpt.messages import Conversation
from nextgpt.modality import MODALITIES, Modality
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts

BATCH_SIZE = 2
NUM_CONVERSATIONS = SimilarLengths.WINDOW * BATCH_SIZE


class Exchanges(ConversationSource):
    """Exchanges of some modalities in turn."""

    def __init__(self, *modalities: Modality) -> None:
        self.modalities = modalities

    def conversation(self, index: int) -> Conversation:
        return exchange(self.modalities[index % len(self.modalities)], seed=index)


class Watched(Stage):
    """A stage that writes down its losses and how often the language model ran."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.losses: list[float] = []
        self.num_runs = 0
        self.chain.language_model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.num_runs += 1

    def training_step(self, batch: Any) -> Tensor:
        loss = super().training_step(batch)
        self.losses.append(float(loss))
        return loss


class Forgetful(Watched):
    """One that runs the language model at every step."""

    @property
    def _remembers(self) -> bool:
        return False


def train(
    tiny: TinyParts,
    folder: Path,
    steps: int,
    *modalities: Modality,
    num: int | None = NUM_CONVERSATIONS,
    stage_type: type[Watched] = Watched,
) -> Watched:
    stage = stage_type(tiny_chain(tiny), ["output_projections"])
    trainer = quiet_trainer(folder, steps, limit_val_batches=0)
    data = ChainData([Exchanges(*modalities)], batch_size=BATCH_SIZE, num_conversations=num)
    trainer.fit(stage, datamodule=data)
    return stage


def test_states_are_computed_once_and_teach_the_same(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    steps = SimilarLengths.WINDOW * 2 + 1
    stage = train(tiny, tmp_path, steps, *MODALITIES)
    plain = train(tiny, tmp_path, steps, *MODALITIES, stage_type=Forgetful)
    assert (stage.num_runs, plain.num_runs) == (SimilarLengths.WINDOW, steps)
    assert len(stage.losses) == steps
    expected = dict(plain.chain.output_projections.named_parameters())
    for name, trained in stage.chain.output_projections.named_parameters():
        assert torch.allclose(trained, expected[name], atol=1e-6), name


def test_endless_conversations_are_not_remembered(
    tiny: TinyParts, own_cache: Path, tmp_path: Path
) -> None:
    stage = train(tiny, tmp_path, 3, *MODALITIES, num=None)
    assert stage.num_runs == 3
    assert not stage._run_states


@pytest.mark.parametrize("num", [None, NUM_CONVERSATIONS])
def test_a_batch_without_media_teaches_nothing_and_training_goes_on(
    tiny: TinyParts, own_cache: Path, tmp_path: Path, num: int | None
) -> None:
    stage = train(tiny, tmp_path, 3, Modality.TEXT, num=num)
    assert len(stage.losses) == 3
    untrained = tiny_chain(tiny).output_projections.state_dict()
    for name, value in stage.chain.output_projections.state_dict().items():
        assert torch.equal(value, untrained[name]), name


def test_conversations_that_do_not_fill_whole_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="17, which is not a multiple of 16 .* choose 32"):
        ChainData([], batch_size=BATCH_SIZE, num_conversations=NUM_CONVERSATIONS + 1)
