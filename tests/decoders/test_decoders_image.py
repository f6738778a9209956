"""What holds for pictures."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from tiny_parts import tiny_autoencoder

from nextgpt.decoders import ImageDecoder


def autoencoder_kl() -> AutoencoderKL:
    """A tiny `AutoencoderKL` of factor 2."""
    return AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
    )


@pytest.mark.parametrize(
    ("vae", "pixels"),
    [
        (autoencoder_kl(), 16),
        (tiny_autoencoder(channels=3, num_stages=2), 16),
        (tiny_autoencoder(channels=3, num_stages=3), 32),
        (tiny_autoencoder(channels=3, num_stages=4), 64),
    ],
    ids=["kl-2", "tiny-2", "tiny-4", "tiny-8"],
)
def test_the_picture_is_the_latent_size_times_the_factor_of_the_autoencoder(
    directories: dict[str, Path], tmp_path: Path, vae: Any, pixels: int
) -> None:
    directory = Path(shutil.copytree(directories["image"], tmp_path / "own"))
    shutil.rmtree(directory / "vae")
    vae.save_pretrained(directory / "vae")
    index = directory / "model_index.json"
    index.write_text(index.read_text().replace("AutoencoderTiny", type(vae).__name__))
    decoder = ImageDecoder(str(directory), num_inference_steps=1)
    (picture,) = decoder.decode(decoder.encode_text(["a dog"]), torch.Generator().manual_seed(0))
    assert picture.size == (pixels, pixels)


def test_the_autoencoder_sees_latents_divided_by_its_scaling_factor(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(directories["image"], tmp_path / "own"))
    config = directory / "vae" / "config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 1.0', '"scaling_factor": 0.5'))
    seen = {}
    for source in (directories["image"], directory):
        decoder = ImageDecoder(str(source), num_inference_steps=2)
        conditioning = decoder.encode_text(["a dog"])
        vae = decoder._component("vae")
        vae.decoder.register_forward_pre_hook(
            lambda _, latents, source=source: seen.update({source: latents[0]})
        )
        decoder.decode(conditioning, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[directory], 2 * seen[directories["image"]])
