"""Sounds and clips as pictures."""

from __future__ import annotations

import numpy as np

from nextgpt.media import Audio, Image, Video
from nextgpt.media.stills import film_strip, spectrogram, still


def test_a_spectrogram_has_low_tones_at_the_bottom() -> None:
    times = np.arange(40_960) / 16_000
    picture = np.asarray(spectrogram(np.sin(2 * np.pi * 300 * times).astype(np.float32)))
    assert picture.shape == (64, 128)
    assert int(picture.mean(axis=1).argmax()) > 48


def test_a_film_strip_shows_the_frames_in_order() -> None:
    frames = np.stack([np.full((32, 64, 3), 30 * n, np.uint8) for n in range(8)])
    strip = np.asarray(film_strip(frames, 48))
    assert strip.shape == (48, 8 * 96, 3)
    assert [int(strip[24, 96 * n + 48, 0]) for n in range(8)] == [30 * n for n in range(8)]


def test_every_medium_is_drawn_as_high_as_asked() -> None:
    frames = np.zeros((3, 20, 40, 3), np.uint8)
    sound = Audio(np.zeros(16_000 * 60, np.float32), sample_rate_hz=16_000)
    assert still(Image(frames[0]), 50).size == (100, 50)
    assert still(Video(frames, frames_per_second=4), 50).size == (8 * 100, 50)
    # Ten seconds are drawn of a minute: 500 hops of 20 ms.
    assert still(sound, 64).size == (500, 64)


def test_a_single_sample_is_drawn_too() -> None:
    click = Audio(np.ones(1, np.float32), sample_rate_hz=16_000)
    assert still(click, 32).height == 32
