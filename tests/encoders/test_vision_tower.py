"""Vision towers of transformers as encoders: layers, class token, other sizes, whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextgpt.encoders import VisionTowerEncoder
from nextgpt.media import Audio, Image
from nextgpt.modality import Modality

IMAGE = Modality.IMAGE
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 20,
}
HAS_CLS = {"clip": True, "clip whole": True, "siglip": False, "blip2": True, "vit": True}


def saved(kind: str, folder: Path) -> Path:
    """A random model of a kind, as published."""
    import transformers as t

    torch.manual_seed(0)
    model: Any
    if kind == "clip":
        model = t.CLIPVisionModel(t.CLIPVisionConfig(**SIZES))
    elif kind == "clip whole":
        config = t.CLIPConfig(vision_config=SIZES, text_config=TEXT, projection_dim=8)
        model = t.CLIPModel(config)
    elif kind == "siglip":
        model = t.SiglipVisionModel(t.SiglipVisionConfig(**SIZES))
    elif kind == "blip2":
        model = t.Blip2VisionModel(t.Blip2VisionConfig(**SIZES))
    else:
        model = t.ViTModel(t.ViTConfig(**SIZES))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=list(HAS_CLS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def values(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_features_are_the_patches_of_the_named_layer(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModel, Blip2VisionModel, CLIPVisionModel

    folder = saved(kind, tmp_path)
    encoder = VisionTowerEncoder(str(folder), layer=-2)
    features = encoder.encode(IMAGE, values())
    classes = {"blip2": Blip2VisionModel, "clip whole": CLIPVisionModel}
    bare = classes.get(kind, AutoModel).from_pretrained(folder).eval()
    with torch.no_grad():
        states = bare(values(), output_hidden_states=True).hidden_states[-2]
    assert torch.equal(features, states[:, 1:] if HAS_CLS[kind] else states)
    assert features.shape[1:] == encoder.feature_shape(IMAGE) == (16, 16)


def test_the_class_token_is_kept_where_there_is_one_and_it_is_wanted(
    kind: str, tmp_path: Path
) -> None:
    folder = str(saved(kind, tmp_path))
    without, kept = (VisionTowerEncoder(folder, keep_cls=keep) for keep in (False, True))
    assert kept.feature_shape(IMAGE)[0] == 16 + HAS_CLS[kind]
    first, second = (encoder.encode(IMAGE, values()) for encoder in (without, kept))
    assert torch.equal(second[:, int(HAS_CLS[kind]) :], first)
    assert (without.fingerprint() == kept.fingerprint()) == (not HAS_CLS[kind])


def test_positions_are_interpolated_for_another_size(kind: str, tmp_path: Path) -> None:
    folder = str(saved(kind, tmp_path))
    encoder = VisionTowerEncoder(folder, image_size=48)
    assert encoder.feature_shape(IMAGE)[0] == 36
    assert encoder.encode(IMAGE, values(48)).shape == (2, 36, 16)
    assert encoder.fingerprint() != VisionTowerEncoder(folder).fingerprint()


def test_gradients_reach_the_tower_only_where_it_is_asked_to_learn(tmp_path: Path) -> None:
    encoder = VisionTowerEncoder(str(saved("clip", tmp_path)))
    encoder.requires_grad_(True)
    assert not encoder.encode(IMAGE, values()).requires_grad
    encoder(IMAGE, values()).square().mean().backward()
    layers = encoder.tower.encoder.layers
    assert float(layers[1].mlp.fc1.weight.grad.abs().max()) > 0
    assert layers[2].mlp.fc1.weight.grad is None  # Behind the layer that is looked at.


def test_pixels_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers.models.clip import CLIPImageProcessor

    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    folder = saved("clip", tmp_path)
    processor.save_pretrained(folder)
    encoder = VisionTowerEncoder(str(folder))
    smooth = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
    ours = encoder.preprocess(IMAGE, Image(smooth))
    theirs = processor(Image(smooth).pil, return_tensors="pt")["pixel_values"][0]
    assert ours.shape == (3, 32, 32)
    # A step of 255 is 0.015; ours crops before it scales, theirs after.
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 7), (32, 32)])
def test_pictures_of_every_shape_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    encoder = VisionTowerEncoder(str(saved("clip", tmp_path)))
    picture = Image(np.full((size[1], size[0], 3), 90, np.uint8))
    read = encoder.preprocess(IMAGE, picture)
    assert read.shape == (3, 32, 32)
    assert torch.isfinite(read).all()


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    folder = str(saved("clip", tmp_path))
    with pytest.raises(ValueError, match="image_size 30 is not a multiple of .* 8 pixels"):
        VisionTowerEncoder(folder, image_size=30)
    with pytest.raises(ValueError, match="layer -5: .* 3 layers"):
        VisionTowerEncoder(folder, layer=-5)
    with pytest.raises(ValueError, match="encodes image, not audio"):
        sound = Audio(np.zeros(100, np.float32), sample_rate_hz=16_000)
        VisionTowerEncoder(folder).preprocess(Modality.AUDIO, sound)


def test_a_model_without_a_tower_or_without_its_weights_is_refused(
    tmp_path: Path, tiny_text_model: Path
) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(ValueError, match="llama is no vision transformer"):
        VisionTowerEncoder(str(tiny_text_model))
    folder = saved("clip", tmp_path)
    weights = load_file(folder / "model.safetensors")
    missing = next(name for name in weights if "layers.1.mlp.fc1.weight" in name)
    del weights[missing]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="1 weights of the vision tower are missing"):
        VisionTowerEncoder(str(folder))


@pytest.fixture
def tiny_text_model(tmp_path: Path) -> Path:
    from transformers import LlamaConfig

    LlamaConfig(**TEXT).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"
