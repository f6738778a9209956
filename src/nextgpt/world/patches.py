"""Instruments of Debian's freepats: Gravis Ultrasound patches, read and played in plain numpy."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nextgpt.world.debian import debian_files
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS
from nextgpt.world.synthesis import SAMPLE_RATE_HZ

_MAGIC = b"GF1PATCH110\0ID#000002\0"
_NUM_SAMPLES_AT = 198
_SAMPLES_AT = 239
_SAMPLE_HEADER = struct.Struct("<8x IIIHIII 21x B 40x")
"""Bytes, start and end of the loop, rate, lowest, highest and own frequency in mHz, modes; name,
tuning, panning, envelope, tremolo and vibrato are passed over."""
_SIXTEEN_BIT, _UNSIGNED, _LOOPED, _BACK_AND_FORTH = 1, 2, 4, 8
_MAX_PATCH_BYTES = 1 << 26

_DRUM_PROGRAMS = (116, 117)
"""General MIDI's pitched drums; the set has them as the toms of its drum kit, a file a key."""
_TOM_KEYS = (41, 43, 45, 47, 48, 50)

_RELEASE_S = 0.25
_ATTACK_S = 0.004


@dataclass(frozen=True)
class PatchSample:
    """One recorded note of an instrument."""

    samples: np.ndarray
    """(T,) float32 in -1..1."""
    sample_rate_hz: int
    low_hz: float
    high_hz: float
    """Notes from the one frequency to the other are played with it."""
    root_hz: float
    """Its own pitch."""
    loop: tuple[int, int] | None
    """First sample of the part repeated while the note is held, and the one after its last."""

    def played(self, frequency_hz: float, num_samples: int) -> np.ndarray:
        """Play it at a pitch, looped: (num_samples,) float32, silent where it has ended."""
        step = self.sample_rate_hz / SAMPLE_RATE_HZ * frequency_hz / self.root_hz
        positions = np.arange(num_samples) * step
        if self.loop is not None:
            start, end = self.loop
            after = positions >= end
            positions[after] = start + (positions[after] - start) % (end - start)
        source = _low_passed(self.samples, 1 / step) if step > 1 else self.samples
        return np.interp(positions, np.arange(len(source)), source, right=0.0).astype(np.float32)


class PatchSet:
    """A ``Synthesiser`` made of the freepats set.

    Args:
        source: The set's ``.deb``, or a folder that holds its ``Tone_000`` and ``Drum_000``.

    Raises:
        ValueError: there is no patch of an instrument.
    """

    def __init__(self, source: Path) -> None:
        found = debian_files(source, ".pat") if source.is_file() else source.rglob("*.pat")
        self._tones: dict[int, Path] = {}
        self._toms: dict[int, Path] = {}
        for path in found:
            number = path.name[:3]
            if number.isdigit() and path.parent.name == "Tone_000":
                self._tones[int(number)] = path
            elif number.isdigit() and int(number) in _TOM_KEYS:
                self._toms[int(number)] = path
        if not self._tones:
            raise ValueError(f"{source}: holds no Tone_000/NNN_name.pat; give freepats' deb")
        self._read: dict[Path, list[PatchSample]] = {}

    @cached_property
    def programs(self) -> frozenset[int]:
        """The General MIDI programs it can play."""
        return frozenset([*self._tones, *(_DRUM_PROGRAMS if self._toms else ())])

    @property
    def instruments(self) -> list[str]:
        """The world's instruments of which it has every program."""
        return [name for name in INSTRUMENTS if self.programs.issuperset(SOUNDS[name].programs)]

    def note(self, program: int, key: int, velocity: int, duration_s: float) -> np.ndarray:
        """Play one note, its release included: (T,) float32 at SAMPLE_RATE_HZ.

        Raises:
            ValueError: there is no patch of the program, or it is broken.
        """
        if program not in self.programs:
            raise ValueError(f"program {program}: no patch; there are {sorted(self.programs)}")
        frequency_hz = 440 * 2 ** ((key - 69) / 12)
        if program in self._tones:
            sample = _nearest(self._samples(self._tones[program]), frequency_hz)
        else:
            tom = min(self._toms, key=lambda tom: abs(tom - key))
            sample = self._samples(self._toms[tom])[0]
            frequency_hz = sample.root_hz * 2 ** ((key - tom) / 12)
        held, release = round(duration_s * SAMPLE_RATE_HZ), round(_RELEASE_S * SAMPLE_RATE_HZ)
        played = sample.played(frequency_hz, held + release) * (velocity / 127) ** 2
        attack = min(held, round(_ATTACK_S * SAMPLE_RATE_HZ))
        played[:attack] *= np.linspace(0, 1, attack)
        played[held:] *= np.linspace(1, 0, release)
        return played.astype(np.float32)

    def _samples(self, path: Path) -> list[PatchSample]:
        if path not in self._read:
            self._read[path] = read_patch(path)
        return self._read[path]


def read_patch(path: Path) -> list[PatchSample]:
    """Read the recorded notes of a ``.pat`` file.

    Raises:
        ValueError: it is no such file, cut short, or says what cannot be.
    """
    if path.stat().st_size > _MAX_PATCH_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are no patch")
    content = path.read_bytes()
    if not content.startswith(_MAGIC) or len(content) <= _SAMPLES_AT:
        raise ValueError(f"{path}: does not begin like a Gravis Ultrasound patch")
    found, at = [], _SAMPLES_AT
    for number in range(content[_NUM_SAMPLES_AT]):
        if at + _SAMPLE_HEADER.size > len(content):
            raise ValueError(f"{path}: ends before the header of sample {number}")
        num_bytes, start, end, rate_hz, low, high, root, modes = _SAMPLE_HEADER.unpack_from(
            content, at
        )
        at += _SAMPLE_HEADER.size
        if at + num_bytes > len(content):
            raise ValueError(
                f"{path}: sample {number} has {num_bytes} bytes, {len(content) - at} are left"
            )
        if not rate_hz or not root:
            raise ValueError(f"{path}: sample {number} has rate {rate_hz} and frequency {root}")
        samples = _decoded(content[at : at + num_bytes], modes)
        at += num_bytes
        loop = None
        if modes & _LOOPED:
            width = 2 if modes & _SIXTEEN_BIT else 1
            start, end = start // width, end // width
            if not start < end <= len(samples):
                raise ValueError(
                    f"{path}: sample {number} of {len(samples)} is looped from {start} to {end}"
                )
            if modes & _BACK_AND_FORTH:
                looped = samples[start:end]
                samples = np.concatenate([samples[:end], looped[::-1]])
                end += len(looped)
            loop = (start, end)
        found.append(PatchSample(samples, rate_hz, low / 1000, high / 1000, root / 1000, loop))
    if not found:
        raise ValueError(f"{path}: holds no sample")
    return found


def _decoded(data: bytes, modes: int) -> np.ndarray:
    """Turn 8 or 16 bits, signed or unsigned, into float32 in -1..1."""
    width = 2 if modes & _SIXTEEN_BIT else 1
    half = 1 << (8 * width - 1)
    sign = "u" if modes & _UNSIGNED else "i"
    whole = data[: len(data) - len(data) % width]
    values = np.frombuffer(whole, f"<{sign}{width}").astype(np.float32)
    return (values - half if modes & _UNSIGNED else values) / half


def _nearest(samples: list[PatchSample], frequency_hz: float) -> PatchSample:
    """Choose the sample meant for a pitch, else the one whose own pitch is nearest."""
    for sample in samples:
        if sample.low_hz <= frequency_hz <= sample.high_hz:
            return sample
    return min(samples, key=lambda sample: abs(np.log(sample.root_hz / frequency_hz)))


def _low_passed(samples: np.ndarray, share: float) -> np.ndarray:
    """Keep a share of the band, so that faster playing folds nothing back."""
    spectrum = np.fft.rfft(samples)
    spectrum[int(len(spectrum) * share) :] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)
