"""Which conversations share a batch and in which order, for any number of ranks, resumed or not."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chain import medium

from nextgpt.data.batches import Mixture, SimilarLengths
from nextgpt.data.conversations import ConversationSource, MediumToCaption
from nextgpt.data.manifest import Item, write_manifest
from nextgpt.data.manifest_conversations import ManifestConversations
from nextgpt.data.rows import Row, write_rows
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.prompting import MediaSlot, SequencePlan, SignalRun


class Counted(ConversationSource):
    """Remembers the numbers it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def conversation(self, index: int) -> Conversation:
        self.asked.append(index)
        return Conversation()


class Sized(Counted):
    """Has so many examples."""

    def __init__(self, num_examples: int) -> None:
        super().__init__()
        self.num_examples = num_examples

    def size(self) -> int:
        return self.num_examples


# Lengths


def test_batches_hold_plans_of_similar_length_and_each_plan_once() -> None:
    lengths = [10 + 37 * index % 83 for index in range(64)]

    def plan(index: int) -> SequencePlan:
        return SequencePlan(torch.full((lengths[index],), index), torch.zeros(0), [], [])

    batches = list(itertools.islice(SimilarLengths([plan], 4, seed=0), 16))
    assert sorted(int(plan.input_ids[0]) for batch in batches for plan in batch) == list(range(64))
    padded = sum(4 * max(len(plan.input_ids) for plan in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)
    longest = [max(len(plan.input_ids) for plan in batch) for batch in batches[:8]]
    assert longest != sorted(longest)


def one_token(index: int) -> SequencePlan:
    """A plan that tells its number, of a length that depends on it."""
    return SequencePlan(torch.full((1 + 37 * index % 83,), index), torch.zeros(0), [], [])


def taken(batches: SimilarLengths, number: int) -> list[list[int]]:
    """Numbers of the plans in the next batches."""
    chosen = itertools.islice(batches, number)
    return [[int(plan.input_ids[0]) for plan in batch] for batch in chosen]


@pytest.mark.parametrize("window", [1, SimilarLengths.WINDOW])
def test_ranks_share_the_batches_of_a_single_process(window: int) -> None:
    whole = taken(SimilarLengths([one_token], 6, 0, window), 20)
    ranks = []
    for rank in range(3):
        batches = SimilarLengths([one_token], 2, 0, window)
        batches.rank, batches.num_ranks = rank, 3
        ranks.append(taken(batches, 20))
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert [len(share) for share in shares] == [2, 2, 2]
        assert sorted(sum(shares, [])) == sorted(batch)


@pytest.mark.parametrize(("num_ranks", "batch_size"), [(1, 6), (3, 2), (2, 3)])
def test_another_number_of_ranks_goes_on_where_the_first_stopped(
    num_ranks: int, batch_size: int
) -> None:
    whole = SimilarLengths([one_token], 6, 0)
    expected = taken(whole, 20)[13:]
    found: list[list[int]] = [[] for _ in expected]
    for rank in range(num_ranks):
        batches = SimilarLengths([one_token], batch_size, 0)
        batches.rank, batches.num_ranks = rank, num_ranks
        batches.go_to(whole.place(13))
        for batch, share in zip(found, taken(batches, 7), strict=True):
            batch += share
    assert list(map(sorted, found)) == list(map(sorted, expected))


def test_other_batches_start_at_the_window_that_was_not_finished() -> None:
    place = SimilarLengths([one_token], 2, 0).place(SimilarLengths.WINDOW + 3)
    packed = SimilarLengths([one_token], 2, 0, window=1)
    packed.go_to(place)
    assert sorted(sum(taken(packed, 2), [])) == [16, 17, 18, 19]


# Kinds in turn


def of_kind(kind: int, index: int) -> SequencePlan:
    """A plan that tells its number, in the thousands of its kind."""
    plan = one_token(index)
    plan.input_ids += 1000 * kind
    return plan


KINDS = [partial(of_kind, kind) for kind in range(3)]


def test_whole_batches_of_all_kinds_take_turns() -> None:
    batches = taken(SimilarLengths(KINDS, 4, 0), 48)
    for number, batch in enumerate(batches):
        assert {plan // 1000 for plan in batch} == {number % 3}
    for kind in range(3):
        plans = sorted(sum(batches[kind::3], []))
        assert plans == [1000 * kind + index for index in range(64)]
    # Kinds have orders of their own, so that not all have their longest at once.
    places = [[min(batch) % 1000 for batch in batches[kind:24:3]] for kind in range(3)]
    assert places[0] != places[1] != places[2]


def test_one_kind_comes_as_it_would_alone() -> None:
    alone = taken(SimilarLengths([one_token], 4, 0), 8)
    assert taken(SimilarLengths([one_token, KINDS[1]], 4, 0), 16)[::2] == alone


@pytest.mark.parametrize("by_modality", [False, True])
@pytest.mark.parametrize("num_taken", [5, 24, 31])
@pytest.mark.parametrize(("num_ranks", "batch_size"), [(1, 6), (2, 3)])
def test_kinds_in_turn_go_on_where_they_stopped_with_any_number_of_ranks(
    num_ranks: int, batch_size: int, num_taken: int, by_modality: bool
) -> None:
    options: dict[str, Any] = {"seed": 0, "by_modality": by_modality}
    whole = SimilarLengths(KINDS, 6, **options)
    expected = taken(whole, 40)[num_taken:]
    found: list[list[int]] = [[] for _ in expected]
    for rank in range(num_ranks):
        batches = SimilarLengths(KINDS, batch_size, **options)
        batches.rank, batches.num_ranks = rank, num_ranks
        batches.go_to(whole.place(num_taken))
        for batch, share in zip(found, taken(batches, len(expected)), strict=True):
            batch += share
    assert list(map(sorted, found)) == list(map(sorted, expected))


@pytest.mark.parametrize(
    ("plans", "batch_size", "by_modality"),
    [(KINDS, 2, False), (KINDS[:1], 4, False), (KINDS, 4, True)],
)
def test_kinds_in_another_way_start_at_the_window_that_was_not_finished(
    plans: list, batch_size: int, by_modality: bool
) -> None:
    # One window of each kind and ten batches of the next.
    place = SimilarLengths(KINDS, 4, 0).place(3 * SimilarLengths.WINDOW + 10)
    batches = SimilarLengths(plans, batch_size, 0, by_modality=by_modality)
    batches.go_to(place)
    plans_of_first_kind = sum(taken(batches, len(plans) * SimilarLengths.WINDOW)[:: len(plans)], [])
    first = 4 * SimilarLengths.WINDOW
    assert sorted(plans_of_first_kind) == list(range(first, first + 8 * batch_size))


def test_a_place_of_before_there_were_kinds_is_still_one() -> None:
    batches = SimilarLengths([one_token], 4, 0)
    expected = taken(batches, 20)[11:]
    batches.go_to({"first": 0, "num_taken": 11, "batch_size": 4})
    assert taken(batches, 9) == expected


# Media and text apart


def mixed(index: int) -> SequencePlan:
    """A plan that tells its number; of three one has a medium and one asks for one."""
    plan = one_token(index)
    if index % 3 == 0:
        plan.slots.append(MediaSlot(Modality.IMAGE, medium("image"), 0, 1))
    if index % 3 == 1:
        plan.runs.append(SignalRun(Modality.IMAGE, medium("image"), 0, 1))
    return plan


def num_impure(batches: list[list[int]]) -> int:
    """Number of batches that hold both."""
    return sum(len({number % 3 == 2 for number in batch}) > 1 for batch in batches)


def test_at_most_one_batch_of_a_window_holds_media_and_text_alone() -> None:
    apart = taken(SimilarLengths([mixed], 6, 0, by_modality=True), 40)
    for start in range(0, 40, SimilarLengths.WINDOW):
        window = apart[start : start + SimilarLengths.WINDOW]
        assert num_impure(window) <= 1
        assert sorted(sum(window, [])) == list(range(start * 6, start * 6 + 48))
    together = taken(SimilarLengths([mixed], 6, 0), 40)
    assert num_impure(together) > 20  # measured 23 of 40
    # The order is random, not text alone first.
    assert [number % 3 == 2 for number, *_ in apart] != sorted(
        (number % 3 == 2 for number, *_ in apart), reverse=True
    )


def test_batches_of_one_modality_are_still_of_similar_length() -> None:
    batches = itertools.islice(SimilarLengths([mixed], 6, 0, by_modality=True), 16)
    lengths = [[len(plan.input_ids) for plan in batch] for batch in batches]
    padded = sum(6 * max(each) for each in lengths)
    assert padded < 1.3 * sum(map(sum, lengths))  # measured 1.25


def test_ranks_share_batches_of_one_modality() -> None:
    whole = taken(SimilarLengths([mixed], 6, 0, by_modality=True), 20)
    ranks = []
    for rank in range(2):
        batches = SimilarLengths([mixed], 3, 0, by_modality=True)
        batches.rank, batches.num_ranks = rank, 2
        ranks.append(taken(batches, 20))
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert sorted(sum(shares, [])) == sorted(batch)
    assert all(num_impure(shares) <= 3 for shares in ranks)


# Shares


def test_the_shares_of_a_mixture_are_its_weights() -> None:
    rare, common = Counted(), Counted()
    mixture = Mixture([rare, common], [1, 3], seed=0, size=4000)
    for index in range(len(mixture)):
        mixture[index]
    # Three standard deviations of a share of a quarter are 0.02.
    assert len(rare.asked) / len(mixture) == pytest.approx(0.25, abs=0.03)
    assert sorted(rare.asked + common.asked) == list(range(4000))


def test_a_mixture_is_the_same_from_either_end_and_differs_by_seed() -> None:
    def chosen(seed: int, order: range) -> set[int]:
        source, other = Counted(), Counted()
        mixture = Mixture([source, other], [1, 1], seed, 100)
        for index in order:
            mixture[index]
        return set(source.asked)

    assert chosen(0, range(100)) == chosen(0, range(99, -1, -1))
    assert chosen(0, range(100)) != chosen(1, range(100))


@pytest.mark.parametrize(
    ("rule", "sizes", "expected"),
    [
        ("sqrt", [100, 400, 2500], [0.125, 0.25, 0.625]),
        ("sqrt", [10_000, 1_000_000], [1 / 11, 10 / 11]),
        ("proportional", [1, 3], [0.25, 0.75]),
        ("equal", [1, 3], [0.5, 0.5]),
    ],
)
def test_a_rule_makes_shares_of_sizes(rule: Any, sizes: list[int], expected: list[float]) -> None:
    sources = [Sized(size) for size in sizes]
    mixture = Mixture(sources, rule, seed=0, size=1000)
    assert mixture.weights == pytest.approx(expected, abs=1e-12)
    for index in range(len(mixture)):
        mixture[index]
    # Three standard deviations of a share of a half are 0.047.
    shares = [len(source.asked) / len(mixture) for source in sources]
    assert shares == pytest.approx(expected, abs=0.05)


def test_each_source_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="1 weights for 2 training sources"):
        Mixture([Counted(), Counted()], [1.0], seed=0, size=1)


def test_a_rule_wants_sources_that_have_a_size_once_it_is_used() -> None:
    mixture = Mixture([Sized(3), Counted()], "sqrt", seed=0, size=10)
    with pytest.raises(ValueError, match="Counted has no size; give weights as numbers"):
        mixture[0]


def test_a_rule_looks_at_manifests_only_once_they_are_there(
    own_cache: Path, tmp_path: Path
) -> None:
    pairs, rows = tmp_path / "pairs.jsonl", tmp_path / "rows.jsonl"
    mixture = Mixture([MediumToCaption(pairs), ManifestConversations(rows)], "sqrt", 0, 10)
    write_manifest(
        pairs,
        [Item(str(n), "image", "a.png", "a", "a", {}, "a", "a", "train") for n in range(4)],
    )
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]
    write_rows(rows, [Row(str(number), talk) for number in range(36)])
    assert mixture.weights == pytest.approx([0.25, 0.75])
