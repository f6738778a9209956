"""Colours of backgrounds, and what a text names."""

from __future__ import annotations

import pytest
from PIL import Image

from nextgpt.evaluation.metrics import (
    MOTION_WORDS,
    background_of,
    concepts_named,
    instruments_named,
    loop_verb_named,
    motion_named,
)
from nextgpt.world.motions import MOTIONS, MotionScene, describe_motion
from nextgpt.world.scenes import COLOURS
from nextgpt.world.sounds import INSTRUMENTS, SoundScene, describe_sound


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("The dog is wagging its tail.", "wagging"),
        ("A fish Swimming, on a red background", "swimming"),
        ("It walks.", None),
        ("It is walking or prancing.", None),
    ],
)
def test_the_verb_of_a_loop_that_a_text_names(text: str, verb: str | None) -> None:
    assert loop_verb_named(text) == verb


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
