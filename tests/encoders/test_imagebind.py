"""ImageBind at tiny size; skipped where the optional package is missing."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nextgpt.bridges import GroupedConnector
from nextgpt.encoders.imagebind import HUGE, ImageBindEncoder, model_module
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.modality import MODALITIES, Modality

for _package in ("imagebind", "einops", "iopath", "ftfy", "regex", "timm", "torchaudio"):
    # NOTE: only looked for, not imported: importing imagebind itself needs what the encoder avoids.
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"needs the extra [imagebind]: no {_package}", allow_module_level=True)

from torchvision import transforms  # noqa: E402

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
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


WIDTH = SIZES["out_embed_dim"]


@pytest.fixture(scope="module")
def encoder() -> ImageBindEncoder:
    torch.manual_seed(0)
    return ImageBindEncoder(None, SIZES)


@pytest.fixture(scope="module")
def patches() -> ImageBindEncoder:
    torch.manual_seed(0)
    return ImageBindEncoder(None, SIZES, tokens="patches")


@pytest.fixture(scope="module")
def package() -> Any:
    """The package's own model, whole, with the weights of both encoders."""
    torch.manual_seed(0)
    return model_module().ImageBindModel(**SIZES).eval()


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


def prepared(encoder: ImageBindEncoder, modality: Modality) -> Tensor:
    return torch.stack([encoder.preprocess(modality, media(seed)[modality]) for seed in (0, 1)])


KEYS = {Modality.IMAGE: "vision", Modality.VIDEO: "vision", Modality.AUDIO: "audio"}


@pytest.mark.parametrize("modality", MODALITIES)
@torch.no_grad()
def test_pooled_features_are_those_of_the_package(
    encoder: ImageBindEncoder, package: Any, modality: Modality
) -> None:
    batch = prepared(encoder, modality)
    expected = package({KEYS[modality]: batch})[KEYS[modality]]
    assert torch.equal(encoder.encode(modality, batch), expected.unsqueeze(1))


@pytest.mark.parametrize("modality", MODALITIES)
@torch.no_grad()
def test_patches_are_the_trunks_tokens_through_the_head(
    patches: ImageBindEncoder, package: Any, modality: Modality
) -> None:
    batch, key = prepared(patches, modality), KEYS[modality]
    clips = batch.unsqueeze(1) if modality is Modality.IMAGE else batch
    each = []
    for clip in clips.unbind(1):
        tokens = package.modality_preprocessors[key](**{key: clip})["trunk"]
        states = package.modality_trunks[key](**tokens)[:, 1:]
        norm, _, linear = package.modality_heads[key]
        each.append(functional.normalize(linear(norm(states)), dim=-1))
    expected = torch.stack(each).mean(0)
    found = patches.encode(modality, batch)
    assert found.shape == (2, {"audio": 228}.get(modality, 256), WIDTH)
    # Equal here; elsewhere clips alone and in a batch may round differently.
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "counts"), [("pooled", (1, 1, 1)), ("patches", (256, 228, 256))]
)
def test_the_published_sizes_have_the_originals_features(
    tokens: Any, counts: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        huge = ImageBindEncoder(None, HUGE, tokens)
    shapes = [huge.feature_shape(m) for m in (Modality.IMAGE, Modality.AUDIO, Modality.VIDEO)]
    assert shapes == [(count, 1024) for count in counts]


def test_grouped_patches_become_tokens_whatever_their_number(patches: ImageBindEncoder) -> None:
    connector = GroupedConnector(WIDTH, 20, 16, 2, (1, 1, 1), (6, 3)).eval()
    for modality in MODALITIES:
        features = torch.randn(2, *patches.feature_shape(modality))
        assert connector(features).shape == (2, 3, 20)


def test_caches_of_pooled_features_and_patches_differ(
    encoder: ImageBindEncoder, patches: ImageBindEncoder
) -> None:
    assert encoder.fingerprint() != patches.fingerprint()


def test_clips_are_averaged(encoder: ImageBindEncoder) -> None:
    clips = encoder.preprocess(Modality.AUDIO, media(0)[Modality.AUDIO])
    together = encoder.encode(Modality.AUDIO, clips[None])
    alone = [encoder.encode(Modality.AUDIO, clip[None, None]) for clip in clips]
    assert torch.allclose(together, torch.stack(alone).mean(dim=0), atol=1e-5)


def test_pictures_are_prepared_as_torchvision_prepares_them(encoder: ImageBindEncoder) -> None:
    picture = media(0)[Modality.IMAGE]
    assert isinstance(picture, Image)
    reference = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )(picture.pil)
    assert torch.allclose(encoder.preprocess(Modality.IMAGE, picture), reference, atol=1e-5)


def test_clips_of_a_video_are_prepared_as_torchvision_prepares_them(
    encoder: ImageBindEncoder,
) -> None:
    from torchvision.transforms import functional as reference

    # 10 s at 10 frames/s: clips of 2 s start every 2 s, the last frame of one lasts until its end.
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (100, 60, 90, 3), dtype=np.uint8)
    expected = []
    for start in (0, 20, 40, 60, 80):
        shown = []
        for number in (start, start + 19):
            picture = PIL.Image.fromarray(frames[number])
            scaled = reference.resize(picture, 224, transforms.InterpolationMode.BICUBIC)
            values = reference.to_tensor(scaled)
            shown.append(reference.normalize(values, MEAN, STD))
        clip = torch.stack(shown, dim=1)
        for left in (0, (336 - 224) // 2, 336 - 224):
            expected.append(reference.crop(clip, 0, left, 224, 224))
    found = encoder.preprocess(Modality.VIDEO, Video(frames, 10.0))
    assert found.shape == (15, 3, 2, 224, 224)
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Kaldi's log-mel bank of 16 kHz samples, from its definition: (frames, 128)."""
    samples = samples - samples.mean()
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * window, 512)) ** 2

    def mel(hz: np.ndarray) -> np.ndarray:
        return 1127 * np.log1p(hz / 700)

    edges = np.linspace(mel(np.array(20.0)), mel(np.array(8000.0)), 130)
    bins = mel(np.arange(257) * 16_000 / 512)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    bank = np.maximum(0, np.minimum(rising, falling))
    bank[256] = 0  # Kaldi leaves the highest frequency out.
    return np.log(np.maximum(power @ bank, np.finfo(np.float32).eps))


def test_sounds_are_prepared_as_kaldi_prepares_them(encoder: ImageBindEncoder) -> None:
    samples = np.random.default_rng(4).uniform(-0.5, 0.5, 80_000).astype(np.float32)
    expected = []
    for start in (0, 24_000, 48_000):  # Three clips of 2 s in 5 s.
        mel = log_mel(samples[start : start + 32_000].astype(np.float64))
        assert len(mel) == 198
        padded = np.pad(mel.T, ((0, 0), (0, 204 - 198)))
        expected.append((padded - -4.268) / 9.138)
    found = encoder.preprocess(Modality.AUDIO, Audio(samples, 16_000))
    assert found.shape == (3, 1, 128, 204)
    # Measured worst case 5e-5: single precision on one side.
    assert np.allclose(found[:, 0].numpy(), np.stack(expected), atol=5e-4)


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
