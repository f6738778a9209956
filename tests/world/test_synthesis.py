"""Performing a scene: the right notes, at one loudness, the same every time."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tiny_media import Sines

from nextgpt.world.sounds import SOUNDS, SoundScene, sample_sound
from nextgpt.world.synthesis import NUM_SAMPLES, keys_of, perform, vary

RECORDINGS = {
    name: np.random.default_rng(0).normal(size=NUM_SAMPLES // 3).astype(np.float32)
    for name, sound in SOUNDS.items()
    if sound.kind == "animal"
}


@pytest.mark.parametrize("name", list(SOUNDS))
def test_every_sound_can_be_heard_and_is_the_same_for_the_same_seed(name: str) -> None:
    scene = sample_sound(random.Random(name), name)
    first, again = (perform(scene, random.Random(1), Sines(), RECORDINGS) for _ in range(2))
    assert first.shape == (NUM_SAMPLES,) and first.dtype == np.float32
    assert np.isfinite(first).all() and 0.01 < np.abs(first).max() <= 0.95
    assert np.array_equal(first, again)
    other = perform(scene, random.Random(2), Sines(), RECORDINGS)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(20))
def test_the_notes_are_those_of_the_scene(seed: int) -> None:
    rng = random.Random(seed)
    centre = SOUNDS["violin"].centre
    for register, offset in (("low", -12), ("high", 12), (None, 0)):
        for contour, sign in (("rising", 1), ("falling", -1)):
            keys = keys_of(SoundScene("violin", 4, register, contour), rng)
            assert len(keys) == 4
            assert all(sign * step >= 2 for step in np.diff(keys))
            assert abs(np.mean(keys) - centre - offset) <= 3
        assert len(set(keys_of(SoundScene("violin", 3, register), rng))) == 1


def test_each_note_is_played_by_a_program_of_the_instrument() -> None:
    synthesiser = Sines()
    scene = SoundScene("saxophone", 4, contour="rising")
    perform(scene, random.Random(0), synthesiser, RECORDINGS)
    assert len(synthesiser.played) == 4
    assert {program for program, _ in synthesiser.played} <= set(SOUNDS["saxophone"].programs)


def test_two_instruments_are_both_heard() -> None:
    synthesiser = Sines()
    perform(SoundScene("piano", second="flute"), random.Random(0), synthesiser, RECORDINGS)
    programs = {program for program, _ in synthesiser.played}
    assert programs & set(SOUNDS["piano"].programs) and programs & set(SOUNDS["flute"].programs)


def test_silence_stays_silent() -> None:
    silent = {name: np.zeros(100, np.float32) for name in RECORDINGS}
    assert not perform(SoundScene("dog"), random.Random(0), Sines(), silent).any()


@pytest.mark.parametrize("num_samples", [2, 1000, NUM_SAMPLES, 3 * NUM_SAMPLES])
def test_a_recording_of_any_length_varies_into_one_length(num_samples: int) -> None:
    recording = np.random.default_rng(1).normal(size=num_samples).astype(np.float32)
    for seed in range(5):
        varied = vary(recording, random.Random(seed))
        assert varied.shape == (NUM_SAMPLES,) and np.isfinite(varied).all()
