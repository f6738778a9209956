"""Media to latents: how a diffusion pipeline's autoencoder is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor


def encoded(autoencoder: Any, values: Tensor) -> Tensor:
    """Encode pictures, mel spectrograms or clips, without the pipeline's scaling.

    Args:
        autoencoder: An ``AutoencoderKL``, whose mean is taken, or an ``AutoencoderTiny``.
        values: (B, C, H, W), or (B, T, C, H, W) whose frames are encoded one by one.

    Returns:
        (B, C', h, w), or (B, C', T, h, w) as a 3D U-Net wants it.
    """
    output = autoencoder.encode(values.flatten(0, -4))
    latents = output.latents if hasattr(output, "latents") else output.latent_dist.mode()
    return latents.unflatten(0, values.shape[:-3]).movedim(-3, 1)


def latent_scale(config: Mapping[str, Any]) -> int:
    """How many times smaller than the media latents are along a side, by the autoencoder's config.

    Counted as the pipelines of diffusers count.
    """
    channels = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return 2 ** (len(channels) - 1)


def pixel_values(picture: PIL.Image.Image, height: int, width: int) -> Tensor:
    """Scale a picture, crop its middle and return (3, height, width) float32 in -1..1."""
    fitted = PIL.ImageOps.fit(picture, (width, height), PIL.Image.Resampling.BICUBIC)
    values = np.asarray(fitted, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1)
