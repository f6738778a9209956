"""Sounds and clips as pictures that stand still: a spectrogram, a film strip."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from nextgpt.media.log_mel import log_mel


def spectrogram(waveform: np.ndarray) -> Image.Image:
    """Draw the log-mel spectrogram of a sound, low tones at the bottom.

    Args:
        waveform: (T,) float at ``log_mel``'s SAMPLE_RATE_HZ.

    Returns:
        Grey picture: one column a hop of 20 ms, one row a band.
    """
    levels = log_mel(torch.from_numpy(waveform)[None])[0].flip(0).numpy()
    return Image.fromarray(((levels + 1) * 127.5).clip(0, 255).astype(np.uint8))


def film_strip(frames: np.ndarray, height: int) -> Image.Image:
    """Set the frames of a clip side by side.

    Args:
        frames: (T, H, W, 3) uint8.
        height: Of the strip in pixels; frames keep their proportions.
    """
    width = round(frames.shape[2] * height / frames.shape[1])
    strip = Image.new("RGB", (len(frames) * width, height))
    for index, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize((width, height)), (index * width, 0))
    return strip
