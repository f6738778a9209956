"""A synthesiser and an archive of animations small enough for tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nextgpt.world.synthesis import SAMPLE_RATE_HZ


class Sines:
    """A synthesiser of sines that remembers what it played."""

    def __init__(self) -> None:
        self.played: list[tuple[int, int]] = []

    def note(self, program: int, key: int, velocity: int, duration_s: float) -> np.ndarray:
        """Play a sine at the key's frequency."""
        self.played.append((program, key))
        times = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        tone = np.sin(2 * np.pi * 440 * 2 ** ((key - 69) / 12) * times)
        return (tone * velocity / 127).astype(np.float32)


def write_loops(path: Path, code_points: list[str]) -> Path:
    """An archive of animations: a square that wanders."""
    with tarfile.open(path, "w:gz") as tar:
        for code_point in code_points:
            frames = []
            for index in range(12):
                frame = Image.new("RGBA", (64, 64))
                ImageDraw.Draw(frame).rectangle((index, 8, index + 20, 40), fill="green")
                frames.append(frame)
            buffer = io.BytesIO()
            frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
            member = tarfile.TarInfo(f"package/assets/{code_point}-fe0f.webp")
            member.size = len(buffer.getvalue())
            tar.addfile(member, io.BytesIO(buffer.getvalue()))
    return path
