"""Files that no model can use, and unusual ones that it can: the same for every way in."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import soundfile
from media_files import (
    damage,
    encode_audio,
    encode_video,
    grey_frames,
    hour_of_sound,
    hour_of_video,
    sine,
    video_without_frames,
)

from nextgpt.media import Audio, Image, Video


def header_of_a_huge_picture() -> bytes:
    """A bitmap of 20,000x20,000, of which only the header is there."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(buffer, "BMP")
    data = bytearray(buffer.getvalue())
    data[18:26] = np.array([20_000, 20_000], "<i4").tobytes()
    return bytes(data)


def cut(medium: Image | Audio | Video, folder: Path, suffix: str) -> bytes:
    """The first half of a file."""
    data = medium.save(folder / f"whole{suffix}").read_bytes()
    return data[: len(data) // 2]


def broken_index(folder: Path, atom: bytes, offset: int, value: bytes) -> bytes:
    """A video that says wrongly where its frames are."""
    return damage(encode_video(folder / "whole.mp4", NOISE), atom, offset, value).read_bytes()


def written(path: Path, samples: np.ndarray, rate_hz: int = 8000, subtype: str = "PCM_16") -> Path:
    """A wav file of (T,) or (T, channels) samples."""
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


NOISE = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
UNUSABLE: dict[str, Callable[[Path], bytes | None]] = {
    "gone.png": lambda folder: None,
    "empty.png": lambda folder: b"",
    "empty.mp4": lambda folder: b"",
    "text.jpg": lambda folder: b"this is no picture\n" * 50,
    "random.wav": lambda folder: NOISE.tobytes(),
    "cut.png": lambda folder: cut(Image(NOISE[0]), folder, ".png"),
    "cut.mp4": lambda folder: cut(Video(NOISE, frames_per_second=4), folder, ".mp4"),
    "cut.wav": lambda folder: cut(Audio(np.zeros(10, np.float32), 8000), folder, ".wav")[:20],
    "huge.bmp": lambda folder: header_of_a_huge_picture(),
    "no-samples.wav": lambda folder: written(folder / "none.wav", np.zeros(0)).read_bytes(),
    "no-frames.avi": lambda folder: video_without_frames(folder / "none.avi").read_bytes(),
    "no-index.mp4": lambda folder: broken_index(folder, b"moov", 0, b"lost"),
    "wrong-index.mp4": lambda folder: broken_index(folder, b"stco", 12, b"\x7f\xff\xff\xff"),
}


TONE = sine(1.0, 8000)
UNUSUAL: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "silence.wav": ("audio", lambda path: written(path, np.zeros(8000))),
    "one-sample.wav": ("audio", lambda path: written(path, np.ones(1))),
    "8-bit-8-kHz.wav": ("audio", lambda path: written(path, TONE, 8000, "PCM_U8")),
    "24-bit-192-kHz.wav": ("audio", lambda path: written(path, TONE, 192_000, "PCM_24")),
    "six-channels.wav": ("audio", lambda path: written(path, np.stack([TONE] * 6, axis=1), 48_000)),
    "hour.wav": ("audio", hour_of_sound),
    "hour.mp3": ("audio", hour_of_sound),
    "sound-only.mp4": ("audio", lambda path: encode_audio(path, TONE[None], 8000, "aac")),
    "one-frame.mp4": ("video", lambda path: encode_video(path, NOISE[:1])),
    "4K-60-Hz.mp4": (
        "video",
        lambda path: encode_video(path, grey_frames(6, 2160, 3840), 60, preset="ultrafast"),
    ),
    "hour.mp4": ("video", hour_of_video),
    "hour.ts": ("video", hour_of_video),
    "no-list-of-key-frames.mp4": (
        "video",
        lambda path: damage(encode_video(path, grey_frames(80)), b"stss", 0, b"free"),
    ),
    "picture.wav": (
        "image",
        lambda path: Image(NOISE[0]).save(path.with_suffix(".png")).rename(path),
    ),
    "sound.mp4": ("audio", lambda path: written(path.with_suffix(".wav"), TONE).rename(path)),
    "video.mp3": (
        "video",
        lambda path: encode_video(path.with_suffix(".mp4"), NOISE).rename(path),
    ),
}
