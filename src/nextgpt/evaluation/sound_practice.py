"""What the judge of sounds practises on: one soundfont, varied."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from nextgpt.evaluation.music_trunk import log_power
from nextgpt.media.log_mel import griffin_lim, log_mel
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS
from nextgpt.world.synthesis import NUM_SAMPLES, SAMPLE_RATE_HZ, Synthesiser

NUM_PROGRAMS = 120
"""Programs of General MIDI that are instruments; the judge learns to tell all of them apart, which
makes it hear finer differences than between the world's few."""
CENTRE = 60
"""MIDI key around which programs are played that are none of the world's instruments."""
ALLIED = {
    "piano": (2, 3),
    "organ": (16, 17, 18, 20),
    "accordion": (22, 23),
    "guitar": (26,),
    "violin": (41, 110),
    "saxophone": (64, 67),
    "flute": (72,),
    "drum": (47, 118),
}
"""Further programs that count as an instrument of the world."""
INSTRUMENT_OF: dict[int, str] = {
    program: name
    for name in INSTRUMENTS
    for program in (*SOUNDS[name].programs, *ALLIED.get(name, ()))
}

LOUDEST = 80
"""Loudest bins of a spectrogram whose mean is its level."""

VOCODED_PROBABILITY = 0.5
NUM_ITERATIONS = 16
"""Of the guess at the phases of what is vocoded."""
STEPS_S = (0.2, 0.36, 0.58)
LOUDNESS = 0.12
NUM_FFT = 3 << 14


class PracticeSounds(Dataset):
    """Spectrograms and their programs; each comes from its index alone.

    In turn any program of the synthesiser, and one of the world's instruments.

    Args:
        synthesiser: Plays them.
        num_sounds: How many sounds.
        seed: Another seed gives other sounds.
    """

    def __init__(self, synthesiser: Synthesiser, num_sounds: int, seed: int = 0) -> None:
        self.synthesiser = synthesiser
        self.num_sounds = num_sounds
        self.seed = seed

    def __len__(self) -> int:
        """Number of sounds."""
        return self.num_sounds

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One sound, float16 as ``log_power`` gives it, and its program."""
        rng = random.Random(f"{self.seed}/{index}")
        turn, of_world = divmod(index, 2)
        program = turn % NUM_PROGRAMS
        if of_world:
            program = rng.choice(SOUNDS[INSTRUMENTS[turn % len(INSTRUMENTS)]].programs)
        waveform = practice_sound(program, self.synthesiser, rng)
        return log_power(torch.from_numpy(waveform)[None])[0].half(), program


def practice_sound(program: int, synthesiser: Synthesiser, rng: random.Random) -> np.ndarray:
    """Play a few notes of a program, changed in ways that other recordings may differ.

    Returns:
        (NUM_SAMPLES,) float32.
    """
    name = INSTRUMENT_OF.get(program)
    count = rng.choice((1, 1, 2, 2, 3, 3, 4, 4))
    step_s = rng.choice(STEPS_S) * rng.uniform(0.85, 1.15)
    duration_s = rng.uniform(0.7, 0.95) * step_s if count > 1 else rng.uniform(0.8, 1.6)
    # Steps and registers go beyond the world's own.
    rise = rng.choice((-3, 0, 0, 3))
    key = (SOUNDS[name].centre if name else CENTRE) + rng.choice((-12, 0, 0, 12))
    key += rng.randint(-5, 5) - round(rise * (count - 1) / 2)
    velocity, start_s, manner = rng.randint(65, 120), rng.uniform(0, 0.15), rng.getrandbits(32)
    waveform = np.zeros(NUM_SAMPLES)
    for number in range(count):
        loud = velocity + rng.randint(-8, 7)
        note = _note(program, key, loud, duration_s, synthesiser, random.Random(manner))
        start = round((start_s + number * step_s) * SAMPLE_RATE_HZ)
        length = max(0, min(len(note), NUM_SAMPLES - start))
        waveform[start : start + length] += note[:length]
        key += rise + (rng.randint(-1, 1) if rise else 0)
    if rng.random() < 0.3:
        waveform = _doubled(waveform, rng)
    if rng.random() < 0.7:
        waveform = _resounding(waveform, rng)
    if rng.random() < VOCODED_PROBABILITY:
        # Generated sounds have passed through a spectrogram; a judge must know what is left then.
        log_mels = log_mel(torch.from_numpy(waveform)[None])
        waveform = griffin_lim(log_mels, NUM_ITERATIONS)[0].numpy()
    loudness = float(np.sqrt(np.square(waveform).mean()))
    return (waveform * LOUDNESS / max(loudness, 1e-4)).astype(np.float32)


def _note(
    program: int,
    key: int,
    velocity: int,
    duration_s: float,
    synthesiser: Synthesiser,
    rng: random.Random,
) -> np.ndarray:
    """Play a note that was recorded at another pitch, with another envelope and vibrato."""
    # Played faster or slower, so that the body's resonances move with the pitch.
    semitones = rng.randint(-3, 3) if rng.random() < 0.6 else 0
    speed = 2 ** (-(semitones + rng.uniform(-0.3, 0.3)) / 12)
    played = synthesiser.note(program, key + semitones, velocity, duration_s * speed)
    times = np.arange(int(len(played) / speed)) / SAMPLE_RATE_HZ
    positions = times * SAMPLE_RATE_HZ * speed
    if rng.random() < 0.25:
        rate_hz, depth = rng.uniform(4, 7), rng.uniform(0.006, 0.023)
        phases = 2 * np.pi * rate_hz * times + rng.uniform(0, 6)
        sway_s = depth / (2 * np.pi * rate_hz) * np.sin(phases) * np.minimum(1, 3 * times)
        positions = positions + sway_s * SAMPLE_RATE_HZ * speed
    note = np.interp(positions, np.arange(len(played)), played)
    if rng.random() < 0.3:
        # Bending the waveform strengthens or weakens its harmonics.
        peak = max(float(np.abs(note).max()), 1e-6)
        bent = note / peak
        note = peak * (bent + rng.gauss(0, 0.25) * bent**2 + rng.gauss(0, 0.25) * bent**3)
    if rng.random() < 0.3:
        note = note * np.exp(-rng.uniform(0, 3) * times)
    return note


def _doubled(waveform: np.ndarray, rng: random.Random) -> np.ndarray:
    """Add the same played a little out of tune: their partials beat."""
    cents = rng.choice((-1, 1)) * rng.uniform(4, 18)
    positions = np.arange(len(waveform)) * 2 ** (cents / 1200)
    second = np.interp(positions, np.arange(len(waveform)), waveform, right=0)
    return waveform + rng.uniform(0.3, 1) * second


def _resounding(waveform: np.ndarray, rng: random.Random) -> np.ndarray:
    """Let another body sound, or another room: convolve with noise that dies away."""
    generator = np.random.default_rng(rng.getrandbits(32))
    times = np.arange(NUM_FFT - len(waveform)) / SAMPLE_RATE_HZ
    response = np.zeros(len(times))
    response[0] = 1
    for decay_s, strength in ((rng.uniform(0.0008, 0.006), 0.8), (rng.uniform(0.05, 0.2), 0.3)):
        if rng.random() < 0.7:
            noise = generator.normal(size=len(times)) * np.exp(-times / decay_s)
            response += rng.uniform(0.05, strength) * noise / np.linalg.norm(noise)
    spectrum = np.fft.rfft(waveform, NUM_FFT) * np.fft.rfft(response, NUM_FFT)
    return np.fft.irfft(spectrum)[: len(waveform)]


def varied(log_powers: Tensor) -> Tensor:
    """Change spectrograms at random as microphones, noise and generators may.

    Args:
        log_powers: (B, M, T) nepers.

    Returns:
        The same shape and scale.
    """
    count, bands, _ = log_powers.shape
    # The tone: a tilt, broad and narrow bends, and the upper end cut off.
    axis = torch.linspace(-1, 1, bands)
    tone = (
        torch.randn(count, 1) * axis + _bends(count, bands, 5, 0.6) + _bends(count, bands, 16, 0.5)
    )
    edge, steepness = 0.7 * torch.rand(count, 1), 20 + 60 * torch.rand(count, 1)
    cut = steepness * (axis / 2 - edge).clamp(min=0) * (torch.rand(count, 1) < 0.3)
    power = (log_powers + (tone - cut)[..., None]).exp()
    # Noise of any colour, the louder the rarer.
    loudness = level(power.log()).exp() * (6 * torch.rand(count) - 13).exp()
    loudness = loudness[:, None] * (torch.rand(count, 1) < 0.6)
    noise = loudness * (1.5 * torch.randn(count, 1) * axis).exp()
    power = power + noise[..., None] * 2 * torch.rand_like(power)
    # What a generator gets wrong from bin to bin.
    grain = 0.4 * torch.rand(count, 1, 1).square() * torch.randn_like(power)
    return (power.log() + grain).roll(int(torch.randint(-12, 13, ())), dims=2)


def level(log_powers: Tensor) -> Tensor:
    """Return how loud spectrograms (B, M, T) are, (B,) nepers."""
    return log_powers.flatten(1).topk(LOUDEST, dim=1).values.mean(dim=1)


def _bends(count: int, bands: int, num_knots: int, strength: float) -> Tensor:
    """Draw (B, M) curves with so many knots."""
    knots = strength * torch.randn(count, 1, num_knots)
    return functional.interpolate(knots, bands, mode="linear", align_corners=True)[:, 0]
