"""Sounds: any common file is read, by excerpts where it is long; unusable ones are refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from media_files import RATE_HZ, encode_audio, hour_of_sound, mp3_frames, sine

from nextgpt.media import Audio, load_medium


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_common_sounds_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, sine(1.5, 44100), 44100)
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.sample_rate_hz == 44100
    assert audio.duration_s == pytest.approx(1.5, abs=0.1)
    windows = audio.windows(3, 0.5, 16000)
    assert windows.shape == (3, 8000)
    assert windows.dtype == np.float32
    assert np.abs(windows[1]).max() == pytest.approx(0.5, abs=0.05)
    # A section reached by seeking holds the samples that reading from the start gives.
    section, start = audio._section(50_000, 5000), 50_000
    assert np.allclose(section, audio.waveform[:, start : start + 5000], atol=1e-4)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "subtype"),
    [(8000, 1, "PCM_U8"), (192000, 2, "PCM_24"), (48000, 6, "FLOAT")],
)
def test_any_rate_depth_and_channel_count_is_read(
    tmp_path: Path, rate_hz: int, channels: int, subtype: str
) -> None:
    samples = np.repeat(sine(0.5, rate_hz)[:, None], channels, axis=1)
    soundfile.write(tmp_path / "sound.wav", samples, rate_hz, subtype=subtype)
    audio = load_medium(tmp_path / "sound.wav")
    assert isinstance(audio, Audio)
    assert audio.waveform.shape == (channels, rate_hz // 2)
    assert audio.windows(2, 1.0, 16000).shape == (2, 16000)


def test_m4a_is_read_from_any_place(tmp_path: Path) -> None:
    low, high = sine(6.0, 44100, 300.0), sine(6.0, 44100, 1200.0)
    path = encode_audio(tmp_path / "two.m4a", np.concatenate([low, high])[None], 44100, "aac")
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.duration_s == pytest.approx(12.0, abs=0.1)
    assert audio.waveform.shape[1] == pytest.approx(12 * 44100, rel=0.01)
    peaks_hz = [np.abs(np.fft.rfft(window)).argmax() for window in audio.windows(2, 1.0, 16000)]
    assert peaks_hz == [300, 1200]
    # A section reached by seeking holds what reading from the start gives (measured: 3e-7).
    assert np.allclose(audio._section(300_000, 5000), audio.waveform[:, 300_000:305_000], atol=1e-5)


def test_resampled_windows_are_not_delayed() -> None:
    window = Audio(sine(2.0, 44100), 44100).windows(1, 1.0, 16000)[0]
    expected = sine(1.0, 16000)
    assert np.abs(window - expected)[200:-200].max() < 1e-4  # measured: 1.1e-5


def test_windows_reach_from_the_start_to_the_end() -> None:
    ramp = Audio(np.linspace(0, 1, 10 * RATE_HZ, dtype=np.float32), RATE_HZ)
    windows = ramp.windows(3, 1.0, RATE_HZ)
    assert np.allclose(windows[:, 0], [0.0, 0.45, 0.9], atol=1e-3)
    assert windows[-1, -1] == pytest.approx(1.0, abs=1e-3)


def test_windows_of_an_hour_read_three_short_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hour_of_sound(tmp_path / "hour.flac")
    read: list[int] = []
    original = Audio._blocks

    def counted(audio: Audio, start: int):  # noqa: ANN202
        for block in original(audio, start):
            read.append(block.shape[1])
            yield block

    monkeypatch.setattr(Audio, "_blocks", counted)
    assert Audio(path).windows(3, 2.0, 16000).shape == (3, 32000)
    assert sum(read) <= 3 * 3 * RATE_HZ


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ, np.float32), np.array([0.25], np.float32)])
def test_silence_and_a_single_sample_are_sounds(
    tmp_path: Path, suffix: str, samples: np.ndarray
) -> None:
    path = tmp_path / f"sound{suffix}"
    soundfile.write(path, samples, RATE_HZ)
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.waveform.shape == (1, len(samples))
    assert np.isfinite(audio.windows(3, 0.5, 16000)).all()


def test_a_short_sound_is_read_once_for_all_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    sections: list[int] = []
    original = Audio._section

    def counted(audio: Audio, start: int, count: int) -> np.ndarray:
        sections.append(start)
        return original(audio, start, count)

    monkeypatch.setattr(Audio, "_section", counted)
    windows = Audio(sine(2.56, 44100), 44100).windows(3, 2.56, 16000)
    assert sections == [0]
    assert (windows == windows[:1]).all()


def test_floats_that_no_loudspeaker_can_play_are_clipped(tmp_path: Path) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -3.0, 0.5] * 1000, np.float32)
    soundfile.write(tmp_path / "wild.wav", values, RATE_HZ, subtype="FLOAT")
    audio = load_medium(tmp_path / "wild.wav")
    assert isinstance(audio, Audio)
    assert audio.waveform[0, :6].tolist() == [0, 1, -1, 1, -1, 0.5]
    again = Audio(audio.save(tmp_path / "tame.wav"))
    assert np.allclose(again.waveform, audio.waveform, atol=1e-4)  # 16 bit: 3e-5


def test_a_rate_that_no_recorder_has_is_refused(tmp_path: Path) -> None:
    path = Audio(sine(0.1, RATE_HZ), RATE_HZ).save(tmp_path / "fast.wav")
    data = bytearray(path.read_bytes())
    data[24:28] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"fast\.wav: sample rate of 2147483647 Hz, the limit is"):
        load_medium(path)


@pytest.mark.parametrize("suffix", [".mp3", ".aac"])
def test_a_length_that_the_file_does_not_state_is_counted(tmp_path: Path, suffix: str) -> None:
    # Silence takes few bits, so the start of the file says nothing about its bit rate.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 10 * 44100).astype(np.float32)
    samples = np.concatenate([np.zeros_like(noise), noise])
    path = tmp_path / f"rising{suffix}"
    if suffix == ".mp3":
        path.write_bytes(mp3_frames(path, samples, 44100))
    else:
        encode_audio(path, samples[None], 44100, "aac")
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.duration_s == pytest.approx(20, abs=0.1)
    first, last = np.abs(audio.windows(2, 1.0, 16000)).max(axis=1)
    assert first < 0.01 < 0.3 < last


def test_a_cut_mp3_is_told_by_its_header_behind_any_tag(tmp_path: Path) -> None:
    whole = encode_audio(tmp_path / "whole.mp3", sine(20.0, 44100)[None], 44100, "libmp3lame")
    data = whole.read_bytes()
    assert data[:3] == b"ID3"
    for tag in (b"", b"ID3\x04\0\0\0\0\x02\x01" + bytes(2 * 128 + 1)):
        (tmp_path / "cut.mp3").write_bytes(tag + data[: len(data) // 2])
        with pytest.raises(ValueError, match=r"cut\.mp3: truncated, ends before its 20\.0 s"):
            load_medium(tmp_path / "cut.mp3")


def test_what_is_no_sound_inside_a_sound_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    soundfile.write(path, sine(20.0, 44100), 44100)
    data, junk = path.read_bytes(), np.random.default_rng(0).bytes(3000)
    middle = len(data) // 2
    for patched in (data + junk, data[:middle] + junk + data[middle:], data + b"TAG" + bytes(125)):
        path.write_bytes(patched)
        audio = load_medium(path)
        assert isinstance(audio, Audio)
        assert audio.waveform.shape[1] == pytest.approx(20 * 44100, rel=0.01)


def test_a_sound_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE_HZ)
    with pytest.raises(ValueError, match=r"none\.wav: holds no samples"):
        load_medium(tmp_path / "none.wav")


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (np.zeros(4, np.int16), 8000),
        (np.zeros(0), 8000),
        (np.zeros(4), None),
        (np.array([np.nan]), 8000),
    ],
)
def test_arrays_that_are_no_sound_are_refused(samples: np.ndarray, rate_hz: int | None) -> None:
    with pytest.raises(ValueError, match="audio data: "):
        Audio(samples, rate_hz)
