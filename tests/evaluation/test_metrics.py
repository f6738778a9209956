"""Proportions with their intervals, colours of backgrounds, what a text names."""

from __future__ import annotations

import pytest
from PIL import Image

from nextgpt.evaluation.metrics import (
    MOTION_WORDS,
    Row,
    background_of,
    concepts_named,
    instruments_named,
    motion_named,
    wilson_interval,
)
from nextgpt.world.motions import MOTIONS, MotionScene, describe_motion
from nextgpt.world.scenes import COLOURS
from nextgpt.world.sounds import INSTRUMENTS, SoundScene, describe_sound


def test_a_proportion_counts_and_is_compared_with_its_target() -> None:
    row = Row.proportion("m", [True, True, False, True], 0.75)
    assert (row.value, row.hits, row.count, row.passed) == (0.75, 3, 4, True)
    assert not Row.proportion("m", [True, True, False, True], 0.75, ">").passed
    assert not Row.proportion("m", [True, False], 0.75).passed


def test_no_case_at_all_fails() -> None:
    assert not Row.proportion("m", [], 0.0).passed


def test_less_is_better_where_the_target_is_an_upper_bound() -> None:
    assert Row("seconds", 7.9, "<", 8.0, 1).passed
    assert not Row("seconds", 8.0, "<", 8.0, 1).passed
    assert Row("seconds", 7.9, "<", 8.0, 1).interval is None


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Published values: Brown, Cai and DasGupta, 2001, and the limits of an empty sample.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0)],
)
def test_wilsons_interval(hits: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("name", COLOURS)
def test_a_background_is_named_whatever_stands_before_it(name: str) -> None:
    picture = Image.new("RGB", (64, 64), COLOURS[name])
    picture.paste((128, 40, 200), (12, 12, 52, 52))
    assert background_of(picture) == name


def test_a_background_a_little_off_keeps_its_name() -> None:
    shifted = tuple(max(0, value - 12) for value in COLOURS["blue"])
    assert background_of(Image.new("RGB", (64, 64), shifted)) == "blue"


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("This is a dog on a blue background.", {"dog"}),
        ("Two dogs and a CAT.", {"dog", "cat"}),
        ("Three strawberries.", {"strawberry"}),
        ("A catalogue of stars.", {"star"}),
        ("Nothing I know.", set()),
    ],
)
def test_the_concepts_that_a_text_names(text: str, concepts: set[str]) -> None:
    assert concepts_named(text) == concepts


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_caption_names_its_instrument_and_no_other(name: str) -> None:
    assert instruments_named(f"I hear {describe_sound(SoundScene(name, 2))}.") == {name}
    other = next(i for i in INSTRUMENTS if i != name)
    both = describe_sound(SoundScene(name, second=other))
    assert instruments_named(both) == {name, other}


@pytest.mark.parametrize(
    ("text", "instruments"),
    [
        ("These are two Harps.", {"harp"}),
        ("A harpsichord, not a harp.", {"harpsichord", "harp"}),
        ("A dog barking.", set()),
    ],
)
def test_the_instruments_that_a_text_names(text: str, instruments: set[str]) -> None:
    assert instruments_named(text) == instruments


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_caption_names_its_motion(motion: str) -> None:
    for concept in ("rocket", "car", "bus"):
        assert motion_named(describe_motion(MotionScene(concept, "red", motion))) == motion
    assert MOTION_WORDS.keys() == MOTIONS.keys()


@pytest.mark.parametrize(
    ("text", "motion"),
    [
        ("The rocket flies upwards.", "up"),
        ("It hops up and down.", "bounce"),
        ("It is turning round and round.", "spin"),
        ("It gets smaller.", "shrink"),
        ("It is moving left or right.", None),
        ("A cat on a red background.", None),
    ],
)
def test_the_motion_that_a_text_names(text: str, motion: str | None) -> None:
    assert motion_named(text) == motion
