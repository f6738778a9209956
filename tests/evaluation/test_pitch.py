"""The tracker finds the pitch of what has one, and tells low from high and rising from falling."""

from __future__ import annotations

import numpy as np
import pytest

from nextgpt.evaluation.pitch import PitchTrack, contour_of, register_of, track_pitch
from nextgpt.world.synthesis import SAMPLE_RATE_HZ


def tone(key: float, duration_s: float = 0.5, harmonics: int = 6) -> np.ndarray:
    frequency_hz = 440 * 2 ** ((key - 69) / 12)
    times = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    numbers = [n for n in range(1, harmonics + 1) if n * frequency_hz < SAMPLE_RATE_HZ / 2]
    waves = [np.sin(2 * np.pi * n * frequency_hz * times) / n for n in numbers]
    return 0.2 * np.sum(waves, axis=0)


def notes(*keys: float) -> np.ndarray:
    return np.concatenate([tone(key, 0.3) for key in keys])


@pytest.mark.parametrize("key", [30, 42, 55, 69, 84, 97])
def test_the_pitch_of_a_tone_is_found(key: int) -> None:
    track = track_pitch(tone(key))
    assert len(track.keys) > 20
    # Worst: 0.26 semitones at key 97, where a period is 7 samples.
    assert np.abs(track.keys - key).max() < 0.4


def test_a_missing_fundamental_is_heard() -> None:
    times = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    wave = sum(np.sin(2 * np.pi * n * 220 * times) for n in (2, 3, 4, 5))
    assert np.median(track_pitch(wave).keys) == pytest.approx(57, abs=0.1)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ)
    silence = np.zeros(SAMPLE_RATE_HZ)
    for waveform in (noise, silence, silence[:100]):
        track = track_pitch(waveform)
        assert len(track.keys) == 0
        assert register_of(track, 60) is None
        assert contour_of(track) is None


def test_frames_much_quieter_than_the_loudest_are_passed_over() -> None:
    track = track_pitch(np.concatenate([tone(60), 0.02 * tone(72)]))
    assert np.abs(track.keys - 60).max() < 0.5


@pytest.mark.parametrize(("key", "register"), [(48, "low"), (55, None), (65, None), (72, "high")])
def test_a_register_is_told_by_the_instruments_middle(key: int, register: str | None) -> None:
    assert register_of(track_pitch(tone(key)), 60) == register


@pytest.mark.parametrize(
    ("keys", "contour"),
    [
        ((57, 60, 63), "rising"),
        ((63, 60, 57), "falling"),
        ((60, 62, 64, 67), "rising"),
        ((60, 60, 60), None),
        ((60, 61, 60), None),
        ((60,), None),
    ],
)
def test_a_contour_is_told_by_the_notes(keys: tuple[int, ...], contour: str | None) -> None:
    assert contour_of(track_pitch(notes(*keys))) == contour


def test_an_octave_error_does_not_turn_a_contour() -> None:
    keys = np.repeat([57.0, 60 + 12, 63], 20)
    track = PitchTrack(np.arange(60) * 0.01, keys)
    assert contour_of(track) == "rising"


def test_a_little_noise_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    waveform = notes(66, 63, 60, 57)
    noisy = waveform + rng.normal(0, 0.02, len(waveform))
    assert contour_of(track_pitch(noisy)) == "falling"
