"""Sound scenes: what can be heard, how captions say it, what is kept from training."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from nextgpt.world.sounds import (
    INSTRUMENTS,
    PITCHED,
    SOUNDS,
    SoundScene,
    describe_sound,
    is_held_out_sound,
    sample_sound,
    trained_sound,
)


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (SoundScene("trumpet", 3, register="high"), "a trumpet playing three high notes"),
        (SoundScene("piano", 1, register="low"), "a piano playing one low note"),
        (
            SoundScene("organ", 4, "low", "falling", "slow"),
            "an organ playing four low falling notes slowly",
        ),
        (SoundScene("drum", 2, speed="fast"), "a drum playing two beats quickly"),
        (SoundScene("piano", second="violin"), "a piano and a violin playing together"),
        (SoundScene("dog"), "a dog barking"),
        (SoundScene("sea"), "the waves of the sea"),
    ],
)
def test_a_caption_says_what_is_heard(scene: SoundScene, caption: str) -> None:
    assert describe_sound(scene) == caption


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"sound": "kazoo"}, "kazoo"),
        ({"sound": "dog", "count": 2}, "count 2"),
        ({"sound": "piano"}, "count None"),
        ({"sound": "drum", "count": 3, "register": "low"}, "no pitch"),
        ({"sound": "piano", "count": 2, "contour": "rising"}, "needs 3 notes, not 2"),
        ({"sound": "piano", "count": 1, "speed": "fast"}, "needs 2 notes, not 1"),
        ({"sound": "dog", "second": "piano"}, "cannot be played with 'piano'"),
    ],
)
def test_what_cannot_be_heard_is_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SoundScene(**fields)  # type: ignore[arg-type]


def test_captions_tell_scenes_apart() -> None:
    rng = random.Random(0)
    scenes = {sample_sound(rng, name) for name in SOUNDS for _ in range(60)}
    assert len({describe_sound(scene) for scene in scenes}) == len(scenes)


def test_training_hears_every_word_but_no_held_out_combination() -> None:
    rng = random.Random(0)
    scenes = [trained_sound(rng, name) for name in PITCHED for _ in range(60)]
    assert not any(is_held_out_sound(scene) for scene in scenes)
    for field in ("register", "contour", "speed", "count"):
        values = Counter(getattr(scene, field) for scene in scenes)
        assert min(values.values()) > 40, values


def test_some_combinations_of_pitch_are_held_out_and_none_of_what_has_none() -> None:
    combinations = [
        SoundScene(name, 3, register, contour)
        for name in PITCHED
        for register in (None, "low", "high")
        for contour in (None, "rising", "falling")
    ]
    held_out = sum(is_held_out_sound(scene) for scene in combinations)
    assert 0.08 < held_out / len(combinations) < 0.22
    others = [name for name in SOUNDS if name not in INSTRUMENTS]
    assert not any(is_held_out_sound(SoundScene(name)) for name in others)
