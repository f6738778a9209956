"""Gravis patches: notes have the pitch of their key, whatever the recording's, and end."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from nextgpt.world.patches import PatchSet, read_patch
from nextgpt.world.sounds import SOUNDS
from nextgpt.world.synthesis import SAMPLE_RATE_HZ

SIXTEEN_BIT, UNSIGNED, LOOPED, BACK_AND_FORTH = 1, 2, 4, 8


def sample(
    frequency_hz: float,
    modes: int,
    rate_hz: int = 22_050,
    num_periods: int = 40,
    loop: tuple[int, int] | None = None,
    low_hz: float = 8.0,
    high_hz: float = 12_500.0,
) -> bytes:
    """A sine as one sample of a patch, header and data."""
    count = round(num_periods * rate_hz / frequency_hz)
    wave = 0.8 * np.sin(2 * np.pi * frequency_hz * np.arange(count) / rate_hz)
    bits = 16 if modes & SIXTEEN_BIT else 8
    half = 1 << (bits - 1)
    levels = np.round(wave * (half - 1)).astype(int) + (half if modes & UNSIGNED else 0)
    data = levels.astype(f"<{'u' if modes & UNSIGNED else 'i'}{bits // 8}").tobytes()
    start, end = loop or (0, count)
    return struct.pack(
        "<8xIIIHIII21xB40x",
        len(data),
        start * bits // 8,
        end * bits // 8,
        rate_hz,
        round(low_hz * 1000),
        round(high_hz * 1000),
        round(frequency_hz * 1000),
        modes,
    ) + data  # fmt: skip


def write_patch(path: Path, *samples: bytes) -> Path:
    head = b"GF1PATCH110\0ID#000002\0".ljust(198, b"\0") + bytes([len(samples)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.ljust(239, b"\0") + b"".join(samples))
    return path


def loudest_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * SAMPLE_RATE_HZ / len(waveform))


def patch_set(folder: Path, *samples: bytes, number: int = 73) -> PatchSet:
    write_patch(folder / "Tone_000" / f"{number:03d}_Some.pat", *samples)
    return PatchSet(folder)


@pytest.mark.parametrize("modes", range(4))
def test_all_sample_formats_are_read_alike(tmp_path: Path, modes: int) -> None:
    [read] = read_patch(write_patch(tmp_path / "a.pat", sample(440, modes)))
    wave = 0.8 * np.sin(2 * np.pi * 440 * np.arange(len(read.samples)) / 22_050)
    # Worst: 8 bits, 0.011.
    assert np.abs(read.samples - wave).max() < 0.02
    assert (read.sample_rate_hz, read.root_hz, read.loop) == (22_050, 440.0, None)


@pytest.mark.parametrize("key", [57, 69, 74, 81])
@pytest.mark.parametrize("modes", [SIXTEEN_BIT | LOOPED, LOOPED | BACK_AND_FORTH])
def test_a_note_has_the_pitch_of_its_key(tmp_path: Path, key: int, modes: int) -> None:
    # 40 samples a period; played back and forth between two peaks, the sine stays one.
    recorded = sample(22_050 / 40, modes, loop=(5 * 40 + 10, 35 * 40 + 10))
    note = patch_set(tmp_path, recorded).note(73, key, 100, 0.8)
    assert len(note) == round(1.05 * SAMPLE_RATE_HZ)
    assert loudest_hz(note) == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.01)


def test_the_sample_meant_for_the_key_is_played(tmp_path: Path) -> None:
    low = sample(220, SIXTEEN_BIT | LOOPED, low_hz=8, high_hz=300)
    high = sample(880, LOOPED, low_hz=301, high_hz=8000)
    patches = patch_set(tmp_path, low, high)
    [first, second] = read_patch(tmp_path / "Tone_000" / "073_Some.pat")
    assert first.root_hz < 300 < second.root_hz
    for key in (45, 81):
        expected = 440 * 2 ** ((key - 69) / 12)
        assert loudest_hz(patches.note(73, key, 100, 1.0)) == pytest.approx(expected, rel=0.01)


def test_a_looped_note_rings_while_held_and_then_fades(tmp_path: Path) -> None:
    note = patch_set(tmp_path, sample(441, LOOPED, num_periods=10)).note(73, 69, 127, 1.0)
    held = note[SAMPLE_RATE_HZ // 2 : SAMPLE_RATE_HZ]
    assert np.abs(held).max() == pytest.approx(0.8, abs=0.05)
    assert np.abs(note[-80:]).max() < 0.05


def test_a_note_without_a_loop_ends_by_itself(tmp_path: Path) -> None:
    note = patch_set(tmp_path, sample(441, SIXTEEN_BIT, num_periods=44)).note(73, 69, 127, 1.0)
    assert np.abs(note[: SAMPLE_RATE_HZ // 20]).max() > 0.5
    assert np.abs(note[SAMPLE_RATE_HZ // 4 :]).max() == 0


def test_a_softer_note_is_softer(tmp_path: Path) -> None:
    patches = patch_set(tmp_path, sample(441, LOOPED))
    loud, soft = (np.abs(patches.note(73, 69, velocity, 0.5)).max() for velocity in (120, 60))
    assert soft < loud / 2


def test_the_drum_is_played_on_the_toms_of_the_kit(tmp_path: Path) -> None:
    write_patch(tmp_path / "Drum_000" / "047_Tom.pat", sample(261.6, SIXTEEN_BIT | LOOPED))
    patches = patch_set(tmp_path, sample(441, LOOPED))
    assert patches.programs == {73, 116, 117}
    assert patches.instruments == ["flute", "drum"]
    low, high = (loudest_hz(patches.note(117, key, 100, 0.6)) for key in (47, 59))
    assert low == pytest.approx(261.6, rel=0.01)
    assert high == pytest.approx(523.2, rel=0.01)


def test_an_instrument_needs_a_patch_for_each_of_its_programs(tmp_path: Path) -> None:
    assert len(SOUNDS["piano"].programs) == 2
    assert patch_set(tmp_path, sample(441, 0), number=0).instruments == []


def test_a_program_without_a_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"program 1: no patch; there are \[73\]"):
        patch_set(tmp_path, sample(441, 0)).note(1, 69, 100, 0.5)


def test_a_folder_without_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no Tone_000"):
        PatchSet(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"RIFF" + b[4:], "does not begin"),
        (lambda b: b[:200], "does not begin"),
        (lambda b: b[:260], "before the header of sample 0"),
        (lambda b: b[:-1], "sample 0 has 4010 bytes, 4009 are left"),
        (lambda b: b[:198] + b"\0" + b[199:], "holds no sample"),
        (lambda b: b[:259] + b"\0\0" + b[261:], "sample 0 has rate 0"),
        (lambda b: b[:255] + b"\xff\xff\xff\xff" + b[259:], "is looped from 0 to 2147483647"),
    ],
)
def test_a_broken_patch_is_refused(tmp_path: Path, change, message: str) -> None:  # noqa: ANN001
    path = write_patch(tmp_path / "a.pat", sample(440, SIXTEEN_BIT | LOOPED))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_patch(path)
