"""ImageBind at tiny size; skipped where the optional package is missing."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch

from nextgpt.encoders.imagebind import ImageBindEncoder
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.modality import MODALITIES, Modality

for _package in ("imagebind", "einops", "iopath", "ftfy", "regex", "timm", "torchaudio"):
    # NOTE: only looked for, not imported: importing imagebind itself needs what the encoder avoids.
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"needs the extra [imagebind]: no {_package}", allow_module_level=True)

SIZES = {
    "out_embed_dim": 12,
    "vision_embed_dim": 16,
    "vision_num_blocks": 1,
    "vision_num_heads": 2,
    "audio_embed_dim": 16,
    "audio_num_blocks": 1,
    "audio_num_heads": 2,
    "text_embed_dim": 16,
    "text_num_blocks": 1,
    "text_num_heads": 2,
    "depth_embed_dim": 16,
    "depth_num_blocks": 1,
    "depth_num_heads": 2,
    "thermal_embed_dim": 16,
    "thermal_num_blocks": 1,
    "thermal_num_heads": 2,
    "imu_embed_dim": 16,
    "imu_num_blocks": 1,
    "imu_num_heads": 2,
}
SHAPES = {
    Modality.IMAGE: (3, 224, 224),
    Modality.AUDIO: (3, 1, 128, 204),
    Modality.VIDEO: (15, 3, 2, 224, 224),
}


@pytest.fixture(scope="module")
def encoder() -> ImageBindEncoder:
    torch.manual_seed(0)
    return ImageBindEncoder(None, SIZES)


def media(seed: int) -> dict[Modality, Medium]:
    rng = np.random.default_rng(seed)
    return {
        Modality.IMAGE: Image(rng.integers(0, 256, (300, 500, 3), dtype=np.uint8)),
        Modality.AUDIO: Audio(rng.uniform(-0.5, 0.5, 40_000).astype(np.float32), 16_000),
        Modality.VIDEO: Video(rng.integers(0, 256, (30, 40, 60, 3), dtype=np.uint8), 10.0),
    }


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_medium_has_imagebinds_shapes(encoder: ImageBindEncoder, modality: Modality) -> None:
    batch = torch.stack([encoder.preprocess(modality, media(seed)[modality]) for seed in (0, 1)])
    assert batch.shape[1:] == SHAPES[modality]
    features = encoder.encode(modality, batch)
    assert features.shape == (2, 1, 12) and torch.isfinite(features).all()
    assert encoder.feature_shape(modality) == (1, 12)
    assert not torch.allclose(features[0], features[1], atol=1e-4)
    alone = encoder.encode(modality, batch[:1])
    # Measured worst case 1e-6.
    assert torch.allclose(alone, features[:1], atol=1e-5)


def test_clips_are_averaged(encoder: ImageBindEncoder) -> None:
    clips = encoder.preprocess(Modality.AUDIO, media(0)[Modality.AUDIO])
    together = encoder.encode(Modality.AUDIO, clips[None])
    alone = [encoder.encode(Modality.AUDIO, clip[None, None]) for clip in clips]
    assert torch.allclose(together, torch.stack(alone).mean(dim=0), atol=1e-5)


def test_pictures_are_prepared_as_torchvision_prepares_them(encoder: ImageBindEncoder) -> None:
    from torchvision import transforms

    picture = media(0)[Modality.IMAGE]
    assert isinstance(picture, Image)
    reference = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(
                (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
            ),
        ]
    )(picture.pil)
    assert torch.allclose(encoder.preprocess(Modality.IMAGE, picture), reference, atol=1e-5)


def test_crops_of_a_video_run_from_left_to_right(encoder: ImageBindEncoder) -> None:
    frames = np.zeros((20, 60, 180, 3), np.uint8)
    frames[:, :, :60] = 255
    values = encoder.preprocess(Modality.VIDEO, Video(frames, 10.0))
    left, middle, right = values[:3].mean(dim=(1, 2, 3, 4))
    # Scaling rings a little at the border of the bright third.
    assert left > middle + 3 and torch.isclose(middle, right, atol=0.05)


def test_the_packages_data_module_is_left_importable(encoder: ImageBindEncoder) -> None:
    assert "imagebind.data" not in sys.modules


def test_towers_of_other_senses_are_dropped(encoder: ImageBindEncoder) -> None:
    assert set(encoder.model.modality_trunks) == {"vision", "audio"}
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
