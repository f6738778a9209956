"""Instruments as formulas: sums of partials with the features by which one knows an instrument.

They widen what the judge of sounds practises on; no recording is in them. The ranges are those of
textbooks (N. H. Fletcher and T. D. Rossing, The Physics of Musical Instruments, 1998), wide.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from nextgpt.world.synthesis import SAMPLE_RATE_HZ

Span = tuple[float, float]

MAX_PARTIALS = 32
HIGHEST_HZ = 7600.0


@dataclass(frozen=True)
class Model:
    """What makes an instrument sound like itself, as ranges to draw from."""

    slope_db: Span
    """Change of the partials' level an octave."""
    decay_s: Span | None = None
    """Seconds until a note of middle C has died away by 60 dB; None for one that is sustained."""
    damping: Span = (0.3, 0.8)
    """Power of a partial's frequency by which it dies away faster."""
    attack_s: Span = (0.001, 0.004)
    even_db: Span = (0.0, 0.0)
    """Level of the even partials against the odd ones."""
    formants_hz: tuple[Span, ...] = ()
    """Where the body strengthens partials."""
    formant_db: Span = (4.0, 14.0)
    plucked: bool = False
    """Whether partials are missing that have a node where the string is plucked."""
    late_highs: Span = (0.0, 0.0)
    """Seconds an octave by which higher partials come later, as in brass."""
    noise_db: Span = (-60.0, -40.0)
    """Level of breath, bow or stick against the tone."""
    noise_s: float | None = None
    """Seconds that the noise lasts; None for as long as the note."""
    vibrato: float = 0.0
    """Share of notes with vibrato."""
    ratios: tuple[float, ...] = ()
    """Frequencies of the partials against the first where they are not harmonic."""
    stops: tuple[float, ...] = (1.0,)
    """Frequencies of the ranks of pipes or reeds that sound together."""
    detuned_cents: Span = (0.0, 0.0)
    """Between two strings or reeds of each note."""
    buzz: Span = (0.0, 0.0)
    """Octaves a second by which a strengthened region of partials sinks, as on a sitar's bridge."""


MODELS: dict[str, Model] = {
    "piano": Model(
        (-14, -7), (3, 9), (0.4, 0.9), noise_db=(-45, -28), noise_s=0.04, detuned_cents=(0, 3)
    ),
    "harpsichord": Model(
        (-5, 1), (1.5, 5), (0.1, 0.5), plucked=True, noise_db=(-40, -25), noise_s=0.02,
        detuned_cents=(0, 4), stops=(1.0, 2.0),
    ),
    "xylophone": Model(
        (-16, -6), (0.2, 0.7), (0.5, 1.2), ratios=(1, 3, 6, 9.2), noise_db=(-30, -18), noise_s=0.02
    ),
    "bell": Model(
        (-7, -1), (3, 10), (0.2, 0.6), noise_db=(-40, -25), noise_s=0.03,
        ratios=(0.5, 1, 1.5, 2, 2.52, 2.98, 3.47, 4.0, 5.1, 6.2),
    ),
    "organ": Model(
        (-14, -5), attack_s=(0.01, 0.06), stops=(0.5, 1.0, 2.0, 3.0, 4.0), noise_db=(-50, -35),
        detuned_cents=(0, 4),
    ),
    "accordion": Model(
        (-7, -2), attack_s=(0.02, 0.09), formants_hz=((1000, 3500),), noise_db=(-50, -35),
        detuned_cents=(3, 18), even_db=(-6, 0),
    ),
    "guitar": Model((-12, -6), (1.5, 5), (0.5, 1.0), plucked=True, noise_db=(-40, -25),
                    noise_s=0.02, formants_hz=((90, 250),)),
    "violin": Model(
        (-9, -4), attack_s=(0.03, 0.15), formants_hz=((280, 600), (2000, 3500)),
        noise_db=(-32, -18), vibrato=0.6,
    ),
    "harp": Model((-20, -11), (1.5, 6), (0.3, 0.8), plucked=True, noise_db=(-50, -30),
                  noise_s=0.02),
    "trumpet": Model(
        (-5, -1), attack_s=(0.01, 0.05), formants_hz=((1000, 2500),), late_highs=(0.008, 0.03),
        noise_db=(-50, -35), vibrato=0.25, formant_db=(4, 12),
    ),
    "tuba": Model(
        (-16, -9), attack_s=(0.02, 0.09), formants_hz=((180, 450),), late_highs=(0.008, 0.03),
        noise_db=(-50, -32),
    ),
    "saxophone": Model(
        (-9, -4), attack_s=(0.01, 0.06), formants_hz=((500, 1200), (2000, 3500)),
        noise_db=(-36, -22), vibrato=0.4,
    ),
    "clarinet": Model(
        (-9, -3), attack_s=(0.01, 0.06), even_db=(-28, -8), formants_hz=((1500, 3500),),
        formant_db=(0, 8), noise_db=(-50, -32),
    ),
    "flute": Model(
        (-22, -11), attack_s=(0.03, 0.12), noise_db=(-32, -16), vibrato=0.6,
    ),
    "sitar": Model(
        (-4, 1), (1.5, 6), (0.0, 0.3), plucked=True, buzz=(0.6, 3.0), noise_db=(-36, -24),
        noise_s=0.03, formants_hz=((1500, 4500),), detuned_cents=(0, 5),
    ),
    "drum": Model(
        (-16, -5), (0.15, 0.7), (0.1, 0.6), ratios=(1, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5),
        noise_db=(-18, -4), noise_s=0.05,
    ),
}  # fmt: skip


def modelled_note(
    model: Model, key: int, duration_s: float, release_s: float, rng: random.Random
) -> np.ndarray:
    """Compute one note, its release included: (T,) at SAMPLE_RATE_HZ, about 0.2 loud."""
    generator = np.random.default_rng(rng.getrandbits(32))
    pitch_hz = 440 * 2 ** ((key - 69 + rng.uniform(-0.2, 0.2)) / 12)
    times = np.arange(round((duration_s + release_s) * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    chosen = [stop for stop in model.stops if stop == 1 or rng.random() < 0.6]
    cents = rng.uniform(*model.detuned_cents)
    strings = (0.0, cents) if cents > 0.5 and rng.random() < 0.8 else (0.0,)
    tone = np.zeros(len(times))
    sway = _sway(model, times, rng)
    for stop in chosen:
        amplitudes, frequencies = _partials(model, pitch_hz * stop, rng, generator)
        if len(frequencies) == 0:
            continue
        envelopes = _envelopes(model, amplitudes, frequencies, times, rng)
        for string in strings:
            turns = np.outer(frequencies * 2 ** (string / 1200), times + sway)
            phases = generator.uniform(0, 1, (len(frequencies), 1))
            waves = np.sin((2 * np.pi * (turns + phases)).astype(np.float32))
            tone += (envelopes * waves).sum(axis=0)
    tone *= 0.2 / max(float(np.sqrt(np.square(tone).mean())), 1e-6)
    tone += _noise(model, times, rng, generator)
    held = round(duration_s * SAMPLE_RATE_HZ)
    tone[held:] *= np.linspace(1, 0, len(times) - held) ** 2
    return tone


def _sway(model: Model, times: np.ndarray, rng: random.Random) -> np.ndarray:
    """Draw the vibrato, as seconds by which the wave runs ahead."""
    if rng.random() >= model.vibrato:
        return np.zeros(len(times))
    rate_hz, depth = rng.uniform(4.5, 6.5), rng.uniform(0.003, 0.014)
    wave = np.sin(2 * np.pi * rate_hz * times + rng.uniform(0, 6))
    return depth / (2 * np.pi * rate_hz) * wave * np.minimum(1, 3 * times)


def _partials(
    model: Model, pitch_hz: float, rng: random.Random, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw amplitudes and frequencies of the partials below HIGHEST_HZ."""
    numbers = np.arange(1, MAX_PARTIALS + 1, dtype=float)
    ratios = np.array(model.ratios) * generator.normal(1, 0.03, len(model.ratios))
    frequencies = pitch_hz * (ratios if len(ratios) else numbers)
    octaves = np.log2(np.maximum(frequencies / pitch_hz, 0.5))
    levels = rng.uniform(*model.slope_db) * octaves + generator.normal(0, 3, len(frequencies))
    if not len(ratios):
        levels[1::2] += rng.uniform(*model.even_db)
    for span in model.formants_hz:
        distance = np.log2(frequencies / rng.uniform(*span)) / rng.uniform(0.4, 1.0)
        levels += rng.uniform(*model.formant_db) * np.exp(-(distance**2))
    amplitudes = 10 ** (levels / 20)
    if model.plucked:
        amplitudes *= np.abs(np.sin(np.pi * numbers * rng.uniform(0.08, 0.45))) + 0.05
    heard = frequencies < HIGHEST_HZ
    return amplitudes[heard], frequencies[heard]


def _envelopes(
    model: Model,
    amplitudes: np.ndarray,
    frequencies: np.ndarray,
    times: np.ndarray,
    rng: random.Random,
) -> np.ndarray:
    """Draw how each partial comes and goes: (partials, T)."""
    late_s = rng.uniform(*model.late_highs) * np.log2(np.maximum(frequencies / frequencies[0], 1))
    attack_s = rng.uniform(*model.attack_s) + late_s
    envelopes = amplitudes[:, None] * -np.expm1(-times / attack_s[:, None])
    if model.decay_s is not None:
        # Lower strings ring longer; higher partials of each die first.
        seconds = rng.uniform(*model.decay_s) * (261.6 / frequencies[0]) ** 0.4
        rates = 6.9 / seconds * (frequencies / frequencies[0]) ** rng.uniform(*model.damping)
        envelopes = envelopes * np.exp(-rates[:, None] * times)
    speed = rng.uniform(*model.buzz)
    if speed > 0:
        centre = 2 ** (rng.uniform(11, 12.8) - speed * times)
        distance = np.log2(frequencies[:, None] / centre) / 0.5
        envelopes = envelopes * (0.4 + 1.6 * np.exp(-(distance**2)))
    return envelopes


def _noise(
    model: Model, times: np.ndarray, rng: random.Random, generator: np.random.Generator
) -> np.ndarray:
    """Draw the noise of breath, bow or stick, softer towards the high end."""
    spectrum = np.fft.rfft(generator.normal(size=len(times)))
    frequencies = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum))
    spectrum *= (1 + frequencies / rng.uniform(300, 3000)) ** -1.0
    noise = np.fft.irfft(spectrum, len(times))
    if model.noise_s is not None:
        noise = noise * np.exp(-times / (model.noise_s * rng.uniform(0.5, 1.5)))
        loudest = np.abs(noise[: SAMPLE_RATE_HZ // 20]).max()
    else:
        loudest = np.abs(noise).max()
    return noise * 0.6 * 10 ** (rng.uniform(*model.noise_db) / 20) / max(loudest, 1e-9)
