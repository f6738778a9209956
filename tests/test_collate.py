"""Plans to padded batches: what stands where, and in which order media are asked for."""

from __future__ import annotations

import random

import torch
from tiny_chain import medium
from torch import Tensor

from nextgpt.collate import collate, packed
from nextgpt.media import Medium
from nextgpt.modality import Modality
from nextgpt.prompting import IGNORED, MediaSlot, SequencePlan, SignalRun

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
PICTURES = [medium("image", seed) for seed in range(3)]
SOUND = medium("audio")


def plan(ids: list[int], slots: list[MediaSlot], runs: list[SignalRun]) -> SequencePlan:
    labels = [IGNORED] * (len(ids) - 1) + ids[-1:]
    return SequencePlan(torch.tensor(ids), torch.tensor(labels), slots, runs)


def plans() -> list[SequencePlan]:
    """Five tokens with two pictures and a sound, then two tokens, then three with a picture."""
    return [
        plan(
            [1, 2, 3, 4, 5],
            [MediaSlot(IMAGE, PICTURES[0], 1, 1), MediaSlot(AUDIO, SOUND, 2, 1)],
            [SignalRun(IMAGE, PICTURES[1], 3, 2)],
        ),
        plan([6, 7], [], []),
        plan([8, 9, 10], [MediaSlot(IMAGE, PICTURES[2], 0, 1)], []),
    ]


class Asked:
    """Answers with one row a medium and remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Modality, list[Medium]]] = []

    def __call__(self, modality: Modality, media: list[Medium]) -> Tensor:
        self.calls.append((modality, media))
        return torch.full((len(media), 1, 2), float(len(self.calls)))


def test_short_plans_are_padded_on_the_right_masked_and_not_learned() -> None:
    batch = collate(plans(), Asked(), pad_id=99)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [6, 7, 99, 99, 99], [8, 9, 10, 99, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert batch.labels.tolist() == [
        [IGNORED] * 4 + [5],
        [IGNORED, 7] + [IGNORED] * 3,
        [IGNORED] * 2 + [10] + [IGNORED] * 2,
    ]
    assert {batch.input_ids.dtype, batch.attention_mask.dtype, batch.labels.dtype} == {torch.int64}


def test_media_are_asked_for_once_a_modality_in_the_order_of_their_places() -> None:
    features, targets = Asked(), Asked()
    batch = collate(plans(), features, targets)
    assert features.calls == [(IMAGE, [PICTURES[0], PICTURES[2]]), (AUDIO, [SOUND])]
    assert targets.calls == [(IMAGE, [PICTURES[1]])]
    assert {key: value.tolist() for key, value in batch.slots.items()} == {
        IMAGE: [[0, 1], [2, 0]],
        AUDIO: [[0, 2]],
    }
    assert {key: value.tolist() for key, value in batch.runs.items()} == {IMAGE: [[0, 3]]}
    assert {key: len(value) for key, value in batch.features.items()} == {IMAGE: 2, AUDIO: 1}
    assert batch.targets[IMAGE].shape == (1, 1, 2)


def test_without_targets_the_runs_are_still_there() -> None:
    batch = collate(plans(), Asked())
    assert batch.targets == {}
    assert set(batch.runs) == {IMAGE}


def test_a_modality_that_does_not_occur_is_not_asked_for() -> None:
    features, targets = Asked(), Asked()
    batch = collate(plans()[1:2], features, targets)
    assert features.calls == targets.calls == []
    assert batch.slots == batch.features == batch.runs == batch.targets == {}


# Several in a row


def test_packed_plans_keep_their_tokens_positions_and_places() -> None:
    features, targets = Asked(), Asked()
    batch = collate(plans(), features, targets, pad_id=99, pack=True)
    # The two short ones share the second row, the longer one first.
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [8, 9, 10, 6, 7]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]]
    assert batch.labels.tolist() == [[IGNORED] * 4 + [5], [IGNORED] * 2 + [10, IGNORED, 7]]
    # Features come in the order of the plans, whatever their places.
    assert features.calls == [(IMAGE, [PICTURES[0], PICTURES[2]]), (AUDIO, [SOUND])]
    assert {key: value.tolist() for key, value in batch.slots.items()} == {
        IMAGE: [[0, 1], [1, 0]],
        AUDIO: [[0, 2]],
    }
    assert {key: value.tolist() for key, value in batch.runs.items()} == {IMAGE: [[0, 3]]}


def test_the_first_token_of_a_plan_is_not_learned_from_the_plan_before() -> None:
    learned = [
        SequencePlan(torch.arange(4), torch.arange(4), [], []),
        SequencePlan(torch.arange(4), torch.arange(4), [], []),
        SequencePlan(torch.arange(9), torch.arange(9), [], []),
    ]
    batch = collate(learned, Asked(), pack=True)
    assert batch.input_ids.tolist() == [[*range(9), *range(4), *range(4)]]
    ignored = (batch.labels[0] == IGNORED).nonzero().flatten().tolist()
    assert ignored == [0, 9, 13]


def test_packed_rows_hold_each_sequence_once_without_overlap_and_pad_little() -> None:
    rng = random.Random(0)
    for _ in range(50):
        lengths = [rng.choice([rng.randint(1, 30), rng.randint(100, 300)]) for _ in range(16)]
        places = packed(lengths)
        taken = {
            (row, start + offset)
            for (row, start), length in zip(places, lengths, strict=True)
            for offset in range(length)
        }
        assert len(taken) == sum(lengths)
        width = 1 + max(position for _, position in taken)
        num_rows = 1 + max(row for row, _ in taken)
        # Measured worst case 1.15 with a mean of 1.03; 2.4 times the longest.
        assert num_rows * width <= 1.2 * sum(lengths)
        assert width <= 3 * max(lengths)


def test_plans_of_one_length_keep_a_row_each() -> None:
    same = [SequencePlan(torch.arange(5), torch.arange(5), [], [])] * 4
    batch = collate(same, Asked(), pack=True)
    assert batch.input_ids.shape == (4, 5)
    assert batch.position_ids is None


def test_a_batch_has_the_weight_of_its_plans_wherever_it_goes() -> None:
    plans = [SequencePlan(torch.arange(3), torch.arange(3), [], [], weight=0.2)] * 2
    batch = collate(plans, Asked())
    assert batch.weight == batch.to(torch.device("cpu")).weight == 0.2
