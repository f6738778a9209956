"""Batches for training: resumed where they stopped, the same validation, nothing computed twice."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from quiet_trainer import quiet_trainer
from tiny_chain import exchange, medium, tiny_chain
from torch import Tensor

from nextgpt.batch import ChainBatch
from nextgpt.data.batches import SimilarLengths
from nextgpt.data.conversations import ConversationSource
from nextgpt.data.datamodule import ChainData
from nextgpt.media import Medium
from nextgpt.messages import Conversation
from nextgpt.modality import MODALITIES, Modality
from nextgpt.model import NextGPTModel
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts

MODALITY_OF = list(Modality)


class Counted(ConversationSource):
    """Exchanges of all modalities in turn, which remembers the numbers it was asked for."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.asked: list[int] = []

    def conversation(self, index: int) -> Conversation:
        self.asked.append(index)
        return exchange(MODALITY_OF[index % 4], seed=index % 3)

    def media(self) -> list[Medium]:
        return [medium(modality, seed) for modality in MODALITIES for seed in range(3)]

    def captions(self) -> list[Medium]:
        return [medium(modality, seed) for modality in MODALITIES for seed in range(1, 4)]


class Recorder(Stage):
    """A stage that remembers the tokens it was trained on."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[Tensor] = []

    def training_step(self, batch: ChainBatch) -> Tensor:
        self.seen.append(batch.input_ids)
        return super().training_step(batch)


@pytest.fixture(scope="module")
def chain(tiny: TinyParts, own_cache: Path) -> NextGPTModel:
    return tiny_chain(tiny)


def trainer_of(folder: Path, steps: int, **options: Any) -> lightning.Trainer:
    return quiet_trainer(folder, steps, check_val_every_n_epoch=None, **options)


def unprepared(data: ChainData, chain: NextGPTModel, folder: Path) -> ChainData:
    """Data that belong to a trainer that is about to train."""
    trainer = trainer_of(folder, 1)
    trainer.strategy.connect(Stage(chain, ["signal_rows"]))
    trainer.state.fn = TrainerFn.FITTING
    data.trainer = trainer
    return data


def attached(data: ChainData, chain: NextGPTModel, folder: Path) -> ChainData:
    """Data set up as Lightning does it, without a step being trained."""
    unprepared(data, chain, folder).setup("fit")
    return data


# Order


def test_a_run_resumed_with_another_batch_size_loses_no_conversation(
    chain: NextGPTModel, tmp_path: Path
) -> None:
    path, steps, first = tmp_path / "last.ckpt", 0, []
    for batch_size in (3, 1, 2):
        source = Counted()
        trainer = trainer_of(tmp_path, steps := steps + SimilarLengths.WINDOW + 1)
        data = ChainData([source], batch_size=batch_size)
        previous = str(path) if path.exists() else None
        trainer.fit(Stage(chain, ["signal_rows"]), datamodule=data, ckpt_path=previous)
        trainer.save_checkpoint(path)
        first.append(source.asked[0])
    # Each goes on behind one whole window of the one before.
    assert first == [0, SimilarLengths.WINDOW * 3, SimilarLengths.WINDOW * (3 + 1)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("steps", [2, 5])
def test_a_resumed_run_goes_on_behind_the_batches_seen(
    chain: NextGPTModel, tmp_path: Path, accumulate: int, steps: int
) -> None:
    def run(steps: int, **options: Any) -> tuple[lightning.Trainer, list[Tensor]]:
        trainer = trainer_of(tmp_path, steps, accumulate_grad_batches=accumulate)
        stage = Recorder(chain, ["signal_rows"])
        trainer.fit(stage, datamodule=ChainData([Counted()], batch_size=3), **options)
        return trainer, stage.seen

    whole = run(7)[1]
    trainer, first = run(steps)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    resumed = run(7, ckpt_path=tmp_path / "first.ckpt")[1]
    assert len(first + resumed) == len(whole) == 7 * accumulate
    assert all(map(torch.equal, first + resumed, whole))


def test_a_run_over_sources_in_turn_goes_on_behind_the_batches_seen(
    chain: NextGPTModel, tmp_path: Path
) -> None:
    def run(steps: int, **options: Any) -> tuple[lightning.Trainer, list[Tensor]]:
        trainer = trainer_of(tmp_path, steps, accumulate_grad_batches=2)
        stage = Recorder(chain, ["signal_rows"])
        data = ChainData([Counted(), Counted()], rule="in_turn", batch_size=3)
        trainer.fit(stage, datamodule=data, **options)
        return trainer, stage.seen

    # The ninth step is the first of another window.
    whole = run(10)[1]
    trainer, first = run(5)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    resumed = run(10, ckpt_path=tmp_path / "first.ckpt")[1]
    assert len(first + resumed) == len(whole) == 20
    assert all(map(torch.equal, first + resumed, whole))


def test_packed_batches_hold_the_conversations_in_their_order(
    chain: NextGPTModel, tmp_path: Path
) -> None:
    data = attached(ChainData([Counted()], batch_size=8, pack=True), chain, tmp_path)
    plain = attached(ChainData([Counted()], batch_size=8), chain, tmp_path)
    batch = next(iter(data.train_dataloader()))
    assert batch.position_ids is not None
    assert len(batch.input_ids) < 8
    plans = [plain._plan(Counted().conversation(index)) for index in range(8)]
    tokens = sorted(batch.input_ids[batch.attention_mask.bool()].tolist())
    assert tokens == sorted(torch.cat([plan.input_ids for plan in plans]).tolist())


def test_validation_asks_for_the_same_conversations_each_time(
    chain: NextGPTModel, tmp_path: Path
) -> None:
    one, other = Counted(), Counted()
    data = ChainData([Counted()], [one, other], batch_size=2, num_validation=7)
    trainer = trainer_of(tmp_path, 4, val_check_interval=2)
    trainer.fit(Stage(chain, ["signal_rows"]), datamodule=data)
    assert len(one.asked) + len(other.asked) == 2 * 7
    for source in (one, other):
        half = len(source.asked) // 2
        assert source.asked[:half] == source.asked[half:]
        assert half > 0


# Contents


def test_a_batch_has_the_features_and_conditioning_of_its_media(
    chain: NextGPTModel, tmp_path: Path
) -> None:
    data = attached(ChainData([Counted()], batch_size=4), chain, tmp_path)
    checked = Counter[Modality]()
    both = zip(data.batches, data.train_dataloader(), strict=False)
    for plans, batch in itertools.islice(both, 8):
        for modality in batch.features:
            shown = [s.medium for plan in plans for s in plan.slots if s.modality == modality]
            values = torch.stack([chain.encoder.preprocess(modality, medium) for medium in shown])
            features = chain.encoder.encode(modality, values)
            torch.testing.assert_close(batch.features[modality], features)
            checked[modality] += len(shown)
        for modality in batch.targets:
            asked = [r.medium for plan in plans for r in plan.runs if r.modality == modality]
            targets = chain.decoders[modality].encode_text([str(m.caption) for m in asked])
            torch.testing.assert_close(batch.targets[modality], targets)
            checked[modality] += len(asked)
    assert checked == dict.fromkeys(MODALITIES, 16)


def test_nothing_is_computed_after_setup_or_in_a_later_run(
    chain: NextGPTModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached(ChainData([Counted()], batch_size=4), chain, tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(chain.encoder, "encode", refuse)
    for decoder in chain.decoders.values():
        monkeypatch.setattr(decoder, "encode_text", refuse)
    later = attached(ChainData([Counted()], batch_size=4), chain, tmp_path)
    batches = list(itertools.islice(later.train_dataloader(), SimilarLengths.WINDOW))
    kinds = Counter(
        m for batch in batches for m, features in batch.features.items() for _ in features
    )
    assert kinds == dict.fromkeys(MODALITIES, SimilarLengths.WINDOW)


def test_one_rank_fills_the_cache_and_the_others_compute_nothing(
    chain: NextGPTModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTGPT_CACHE", str(tmp_path / "cache"))
    computed = Counter[str]()

    def counting(part: Any, name: str) -> None:
        compute = getattr(part, name)

        def counted(*arguments: Any) -> Tensor:
            computed[name] += 1
            return compute(*arguments)

        monkeypatch.setattr(part, name, counted)

    counting(chain.encoder, "encode")
    for decoder in chain.decoders.values():
        counting(decoder, "encode_text")
    ranks = []
    for rank in range(2):
        data = unprepared(ChainData([Counted()], batch_size=4), chain, tmp_path)
        assert data.trainer is not None
        monkeypatch.setattr(data.trainer.strategy, "world_size", 2, raising=False)
        monkeypatch.setattr(data.trainer.strategy, "global_rank", rank, raising=False)
        ranks.append(data)
    ranks[0].prepare_data()
    filled = computed.copy()
    assert filled.keys() == {"encode", "encode_text"}
    for data in ranks:
        data.setup("fit")
    assert computed == filled
    assert [data.batches.rank for data in ranks] == [0, 1]


def test_a_medium_without_a_caption_cannot_be_asked_for_and_is_named(
    chain: NextGPTModel, tmp_path: Path
) -> None:
    data = attached(ChainData([Counted()]), chain, tmp_path)
    nameless = medium("image").save(tmp_path / "nameless.png")
    with pytest.raises(ValueError, match=r"nameless\.png: has no caption"):
        data.targets(Modality.IMAGE, [type(medium("image"))(nameless)])


# Options


def test_predict_without_requests_says_how_to_give_them() -> None:
    with pytest.raises(ValueError, match=r"--data\.requests"):
        ChainData().predict_dataloader()


def test_requests_come_one_at_a_time_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    data = ChainData(requests=tmp_path / "requests.jsonl")
    requests = [(number, each.messages[0].text) for number, each in data.predict_dataloader()]
    assert requests == [(1, "a"), (3, "b")]
