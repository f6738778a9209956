"""The trunk of the judge of sounds: a network that learned to tag 170 hours of music.

Source: the "VGG" of J. Pons and X. Serra, musicnn, arXiv:1909.06654, trained on MagnaTagATune.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SOURCE_FILE = "musicnn/MTT_vgg/.data-00000-of-00001"
WIDTH = 128
NUM_LAYERS = 5
WIDTHS = (1, *[WIDTH] * NUM_LAYERS)
"""Channels of the input and behind each layer."""
NUM_TAGS = 50
NUM_FFT, HOP_SAMPLES, NUM_BANDS = 512, 256, 96
SAMPLE_RATE_HZ = 16_000
FLOOR = 1e-9
POOLS = ((4, 1), (2, 2), (2, 2), (2, 2))
"""Frames and bands that each layer but the last pools, two frames and two bands on."""


class MusicTrunk(nn.Module):
    """Five convolutions over the log-mel spectrogram; in evaluation mode for good."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=1e-3) for width in WIDTHS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, WIDTH, 3, padding=1) for width in WIDTHS[:-1]
        )
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def load(self, directory: Path) -> None:
        """Read the weights from the unpacked package.

        The file is the data of a TensorFlow checkpoint: tensors as float32 in the order of their
        names; behind each one that was trained stand the two that Adam keeps of it.

        Raises:
            ValueError: the file is of another length than this network's.
        """
        path = directory / SOURCE_FILE
        values = torch.from_numpy(np.fromfile(path, "<f4"))
        if len(values) != _num_values():
            raise ValueError(f"{path}: {len(values)} numbers, not the {_num_values()} of the trunk")
        position = 0

        def take(*shape: int, trained: bool = True) -> Tensor:
            nonlocal position
            start, size = position, math.prod(shape)
            position += size * (3 if trained else 1)
            return values[start : start + size].reshape(shape)

        state = {}
        for index, width in enumerate(WIDTHS[:-1]):
            name = f"convolutions.{index}"
            state[f"{name}.bias"] = take(WIDTH)
            state[f"{name}.weight"] = take(3, 3, width, WIDTH).permute(3, 2, 0, 1)
        for index, width in enumerate(WIDTHS):
            name = f"norms.{index}"
            state[f"{name}.bias"] = take(width)
            state[f"{name}.weight"] = take(width)
            state[f"{name}.running_mean"] = take(width, trained=False)
            state[f"{name}.running_var"] = take(width, trained=False)
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        self.load_state_dict(state)

    def forward(self, log_power: Tensor) -> list[Tensor]:
        """Map (B, NUM_BANDS, T) nepers of power to the layers' maps, each (B, WIDTH, t, f)."""
        maps = self.norms[0](torch.log10(1e4 * log_power.exp() + 1).transpose(1, 2)[:, None])
        layers = []
        for index, convolution in enumerate(self.convolutions):
            maps = self.norms[index + 1](functional.relu(convolution(maps)))
            layers.append(maps)
            if index < len(POOLS):
                maps = functional.max_pool2d(maps, POOLS[index], stride=2)
        return layers


def log_power(waveforms: Tensor) -> Tensor:
    """Compute the spectrogram the trunk sees, before its own compression.

    Args:
        waveforms: (B, T) float32 in -1..1 at SAMPLE_RATE_HZ.

    Returns:
        (B, NUM_BANDS, 1 + T // HOP_SAMPLES) nepers of power.
    """
    window = torch.hann_window(NUM_FFT)
    spectrum = torch.stft(waveforms, NUM_FFT, HOP_SAMPLES, window=window, return_complex=True)
    return (_filters() @ spectrum.abs().square()).clamp(min=FLOOR).log()


@cache
def _filters() -> Tensor:
    """Triangular filters of equal area, (NUM_BANDS, NUM_FFT // 2 + 1)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        *(NUM_FFT // 2 + 1, NUM_BANDS, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ),
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters.T).float()


def _num_values() -> int:
    convolutions = 3 * sum(WIDTH + 9 * WIDTH * width for width in WIDTHS[:-1])
    norms = 8 * sum(WIDTHS)
    powers_of_adam = 2
    classifier = 3 * (NUM_TAGS + 2 * WIDTH * NUM_TAGS)
    return convolutions + norms + powers_of_adam + classifier
