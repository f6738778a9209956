"""Media as pictures that stand still: of a sound its spectrogram, of a clip a film strip."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch

from nextgpt.media.audio import Audio
from nextgpt.media.base import Medium
from nextgpt.media.image import Image
from nextgpt.media.log_mel import SAMPLE_RATE_HZ, log_mel
from nextgpt.media.video import Video

LONGEST_SOUND_S = 10.0
"""More of a sound is not drawn."""
SHORTEST_SOUND_S = 0.1
"""Silence is drawn behind what is shorter."""
NUM_FRAMES = 8
"""Frames of a film strip."""


def still(medium: Medium, height: int) -> PIL.Image.Image:
    """Draw a medium, ``height`` pixels high.

    Raises:
        ValueError: its source cannot be read.
    """
    if isinstance(medium, Image):
        width = max(1, round(medium.size[0] * height / medium.size[1]))
        return medium.pil.resize((width, height), PIL.Image.Resampling.LANCZOS)
    if isinstance(medium, Audio):
        drawn = spectrogram(start_of(medium)).convert("RGB")
        return drawn.resize((max(1, drawn.width * height // drawn.height), height))
    assert isinstance(medium, Video), "every medium is one of the three"
    return film_strip(medium.frames(NUM_FRAMES), height)


def start_of(sound: Audio) -> np.ndarray:
    """Return the start of a sound, (T,) float32 at ``log_mel``'s rate."""
    start = sound.windows(1, min(sound.duration_s, LONGEST_SOUND_S), SAMPLE_RATE_HZ)[0]
    missing = round(SHORTEST_SOUND_S * SAMPLE_RATE_HZ) - len(start)
    return np.pad(start, (0, max(0, missing)))


def spectrogram(waveform: np.ndarray) -> PIL.Image.Image:
    """Draw the log-mel spectrogram of a sound, low tones at the bottom.

    Args:
        waveform: (T,) float at ``log_mel``'s SAMPLE_RATE_HZ.

    Returns:
        Grey picture: one column a hop of 20 ms, one row a band.
    """
    levels = log_mel(torch.from_numpy(waveform)[None])[0].flip(0).numpy()
    return PIL.Image.fromarray(((levels + 1) * 127.5).clip(0, 255).astype(np.uint8))


def film_strip(frames: np.ndarray, height: int) -> PIL.Image.Image:
    """Set the frames of a clip side by side.

    Args:
        frames: (T, H, W, 3) uint8.
        height: Of the strip in pixels; frames keep their proportions.
    """
    width = round(frames.shape[2] * height / frames.shape[1])
    strip = PIL.Image.new("RGB", (len(frames) * width, height))
    for index, frame in enumerate(frames):
        strip.paste(PIL.Image.fromarray(frame).resize((width, height)), (index * width, 0))
    return strip
