"""Sounds and videos for tests, and files of an hour that are written in a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import soundfile

RATE_HZ = 8000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def sine(duration_s: float, rate_hz: int, frequency_hz: float = 440.0) -> np.ndarray:
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def grey_frames(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame number i is an even grey of its own."""
    greys = np.linspace(20, 235, num_frames).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (num_frames, height, width, 3)).copy()


def encode_audio(
    path: Path, samples: np.ndarray, rate_hz: int, codec: str, **container_options: str
) -> Path:
    """Write (channels, T) float samples with PyAV."""
    layout = LAYOUTS[len(samples)]
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=layout
        )
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def mp3_frames(path: Path, samples: np.ndarray, rate_hz: int) -> bytes:
    """Bare frames of mp3, with neither a tag nor the header that counts them; by way of a file."""
    options = {"write_xing": "0", "id3v2_version": "0"}
    return encode_audio(path, samples[None], rate_hz, "libmp3lame", **options).read_bytes()


def encode_video(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: int = 8,
    codec: str = "libx264",
    **codec_options: str,
) -> Path:
    """Write (H, W, 3) uint8 frames of one size with PyAV."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options)
        for frame in frames:
            if not stream.codec_context.is_open:
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def video_without_frames(path: Path) -> Path:
    """A container with a video stream that holds nothing."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 16
        container.start_encoding()
    return path


def damage(path: Path, atom: bytes, offset: int, value: bytes) -> Path:
    """Overwrite a place in a file, counted from the first occurrence of an atom's name."""
    data = bytearray(path.read_bytes())
    start = data.index(atom) + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)
    return path


def hour_of_sound(path: Path) -> Path:
    """A tone of an hour at 8 kHz: wav, flac, or mp3 without a header that tells its length."""
    minute = sine(60.0, RATE_HZ)
    if path.suffix == ".mp3":
        path.write_bytes(60 * mp3_frames(path, minute, RATE_HZ))
        return path
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as sound:
        for _ in range(60):
            sound.write(minute)
    return path


def hour_of_video(path: Path) -> Path:
    """3600 greys, one a second."""
    return encode_video(path, grey_frames(3600, 64, 64), rate=1, preset="ultrafast")
