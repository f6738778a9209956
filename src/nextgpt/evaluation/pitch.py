"""The pitch of a sound over time, and whether it is low, high, rising or falling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from nextgpt.world.sounds import Contour, Register

SAMPLE_RATE_HZ = 16_000
WINDOW = 800
"""Samples that two stretches of sound are compared over."""
HOP = 160
LOWEST_HZ, HIGHEST_HZ = 42.0, 3000.0
APERIODICITY = 0.2
"""Normalised difference up to which a frame has a pitch; 0 is perfectly periodic."""
QUIETEST = 0.06
"""Loudness of a frame that is listened to, as a share of the loudest one's."""

REGISTER_SEMITONES = 6.0
CONTOUR_SEMITONES = 3.0
STEADY_SEMITONES = 0.8
"""Largest change from frame to frame within one note."""
NOTE_FRAMES = 5
OCTAVE_LEAP = (7.5, 16.5)
"""Steps between notes that hold an octave error: the world's own steps are at most 4."""


@dataclass(frozen=True)
class PitchTrack:
    """The pitch of the frames that have one."""

    seconds: np.ndarray
    """(N,) middle of each frame."""
    keys: np.ndarray
    """(N,) pitch in MIDI keys, semitones with 69 at 440 Hz."""


def track_pitch(waveform: np.ndarray) -> PitchTrack:
    """Follow the pitch of a sound.

    Args:
        waveform: (T,) float at SAMPLE_RATE_HZ.

    Source: A. de Cheveigné and H. Kawahara, 2002, YIN, a fundamental frequency estimator for speech
    and music, J. Acoust. Soc. Am. 111, 1917; steps 1 to 5.
    """
    longest = int(SAMPLE_RATE_HZ / LOWEST_HZ) + 2
    length = WINDOW + longest
    if len(waveform) < length:
        waveform = np.pad(waveform, (0, length - len(waveform)))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, length)[::HOP].astype(np.float64)
    normalised = _normalised_difference(frames, longest)
    lags, depths = _first_dips(normalised, int(SAMPLE_RATE_HZ / HIGHEST_HZ))
    loudness = np.sqrt(np.square(frames).mean(axis=1))
    voiced = (depths < APERIODICITY) & (loudness > QUIETEST * max(loudness.max(), 1e-4))
    middles = (np.arange(len(frames)) * HOP + length / 2) / SAMPLE_RATE_HZ
    keys = 69 + 12 * np.log2(SAMPLE_RATE_HZ / lags[voiced] / 440)
    return PitchTrack(middles[voiced], keys)


def _normalised_difference(frames: np.ndarray, longest: int) -> np.ndarray:
    """Cumulative mean normalised difference, (N, longest), of (N, WINDOW + longest) frames."""
    size = 1 << (frames.shape[1] - 1).bit_length()
    spectrum = np.fft.rfft(frames, size)
    head = np.fft.rfft(frames[:, :WINDOW], size)
    correlation = np.fft.irfft(spectrum * head.conj(), size)[:, :longest]
    energy = np.cumsum(np.square(np.pad(frames, ((0, 0), (1, 0)))), axis=1)
    windows = energy[:, WINDOW : WINDOW + longest] - energy[:, :longest]
    difference = np.maximum(windows[:, :1] + windows - 2 * correlation, 0)
    means = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, longest)
    normalised = np.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] / np.maximum(means, 1e-12)
    return normalised


def _first_dips(normalised: np.ndarray, shortest: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the lag of the first dip below APERIODICITY, else of the deepest, and its depth."""
    inner = normalised[:, shortest:-1]
    is_dip = (inner <= normalised[:, shortest - 1 : -2]) & (inner < normalised[:, shortest + 1 :])
    deep = is_dip & (inner < APERIODICITY)
    chosen = np.where(deep.any(axis=1), deep.argmax(axis=1), inner.argmin(axis=1)) + shortest
    rows = np.arange(len(normalised))
    before, at, after = (normalised[rows, chosen + offset] for offset in (-1, 0, 1))
    # A parabola through the three lags gives the dip between samples.
    curvature = before - 2 * at + after
    shift = np.where(curvature > 1e-9, (before - after) / (2 * np.maximum(curvature, 1e-9)), 0)
    return chosen + np.clip(shift, -0.5, 0.5), at


def register_of(track: PitchTrack, centre: int) -> Register | None:
    """Tell whether a sound is low or high for an instrument with this key in its middle."""
    if len(track.keys) == 0:
        return None
    offset = float(np.median(track.keys)) - centre
    if abs(offset) <= REGISTER_SEMITONES:
        return None
    return "low" if offset < 0 else "high"


def contour_of(track: PitchTrack) -> Contour | None:
    """Tell whether the notes of a sound rise or fall: the median slope between any two moments.

    Source: P. K. Sen, 1968, J. Am. Stat. Assoc. 63, 1379.
    """
    track = _without_octave_errors(track)
    if len(track.keys) < 2:
        return None
    earlier, later = np.triu_indices(len(track.keys), k=1)
    slopes = (track.keys[later] - track.keys[earlier]) / (
        track.seconds[later] - track.seconds[earlier]
    )
    rise = float(np.median(slopes)) * float(track.seconds[-1] - track.seconds[0])
    if abs(rise) < CONTOUR_SEMITONES:
        return None
    return "rising" if rise > 0 else "falling"


def _without_octave_errors(track: PitchTrack) -> PitchTrack:
    """Keep the steady notes; one about an octave off its forerunner is moved beside it."""
    steps, pauses = np.abs(np.diff(track.keys)), np.diff(track.seconds)
    cuts = np.flatnonzero((steps > STEADY_SEMITONES) | (pauses > 2.5 * HOP / SAMPLE_RATE_HZ)) + 1
    runs = np.split(np.arange(len(track.keys)), cuts)
    notes = [run for run in runs if len(run) >= NOTE_FRAMES]
    keys = track.keys.copy()
    for before, note in itertools.pairwise(notes):
        leap = float(np.median(keys[note]) - np.median(keys[before]))
        if OCTAVE_LEAP[0] < abs(leap) < OCTAVE_LEAP[1]:
            keys[note[0] :] -= 12 * np.sign(leap)
    kept = np.concatenate([*notes, np.zeros(0, int)])
    return PitchTrack(track.seconds[kept], keys[kept])
