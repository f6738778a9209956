"""micro-bind at tiny random size: shapes, files, refusals, and what its vectors must depend on."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoder import CONFIG, tiny_encoder

from nextgpt.encoders.heads import DrawingGate
from nextgpt.encoders.micro_bind import MicroBindEncoder
from nextgpt.encoders.towers import Trunk
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.modality import MODALITIES, Modality


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def part(folders: tuple[Path, Path]) -> Path:
    return folders[0]


@pytest.fixture(scope="module")
def trunk(folders: tuple[Path, Path]) -> Path:
    return folders[1]


@pytest.fixture(scope="module")
def encoder(part: Path, trunk: Path) -> MicroBindEncoder:
    return MicroBindEncoder(str(part), str(trunk))


def changed_part(part: Path, directory: Path, **image_options: Any) -> str:
    """Copy a part with another configuration of its picture side."""
    shutil.copytree(part, directory, dirs_exist_ok=True)
    config = json.loads((part / "config.json").read_text())
    config["modalities"]["image"].update(image_options)
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


def media(seed: int) -> dict[Modality, Medium]:
    rng = np.random.default_rng(seed)
    return {
        Modality.IMAGE: Image(rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)),
        Modality.AUDIO: Audio(rng.uniform(-0.5, 0.5, 12_000).astype(np.float32), 12_000),
        Modality.VIDEO: Video(rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8), 5.0),
    }


SHAPES = {
    Modality.IMAGE: (3, 32, 32),
    Modality.AUDIO: (2, 16, 16),
    Modality.VIDEO: (3, 2, 3, 32, 32),
}


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_side_keeps_its_documented_shapes(
    encoder: MicroBindEncoder, modality: Modality
) -> None:
    batch = torch.stack([encoder.preprocess(modality, media(seed)[modality]) for seed in range(3)])
    assert batch.shape[1:] == SHAPES[modality]
    features = encoder.encode(modality, batch)
    assert features.shape == (3, 1, 16) and features.dtype == torch.float32
    assert encoder.feature_shape(modality) == (1, 16)
    lengths = features.norm(dim=-1)
    assert torch.allclose(lengths, torch.full_like(lengths, math.sqrt(16)), atol=1e-4)
    assert not torch.allclose(features[0], features[1], atol=1e-3), "two media, one vector"


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_batch_of_one_equals_a_batch_of_many(
    encoder: MicroBindEncoder, modality: Modality
) -> None:
    # Ten cross the border of the trunk's chunks.
    batch = torch.stack([encoder.preprocess(modality, media(seed)[modality]) for seed in range(10)])
    together = encoder.encode(modality, batch)
    alone = torch.cat([encoder.encode(modality, item[None]) for item in batch])
    # Measured worst case 4e-6.
    assert torch.allclose(together, alone, atol=5e-5)


def test_the_last_frame_counts_for_a_video(encoder: MicroBindEncoder) -> None:
    batch = encoder.preprocess(Modality.VIDEO, media(0)[Modality.VIDEO])[None]
    changed = batch.clone()
    changed[:, :, -1] = -changed[:, :, -1]
    before, after = (encoder.encode(Modality.VIDEO, values) for values in (batch, changed))
    assert not torch.allclose(before, after, atol=1e-3)


def long_media(seed: int) -> dict[Modality, Medium]:
    """Several windows of noise."""
    rng = np.random.default_rng(seed)
    return {
        Modality.AUDIO: Audio(rng.uniform(-0.5, 0.5, 24_000).astype(np.float32), 8_000),
        Modality.VIDEO: Video(rng.integers(0, 256, (32, 32, 32, 3), dtype=np.uint8), 4.0),
    }


def short_media(seed: int) -> dict[Modality, Medium]:
    """Less than a window of noise."""
    rng = np.random.default_rng(seed)
    return {
        Modality.AUDIO: Audio(rng.uniform(-0.5, 0.5, 1_000).astype(np.float32), 8_000),
        Modality.VIDEO: media(seed)[Modality.VIDEO],
    }


WINDOWED = [Modality.AUDIO, Modality.VIDEO]


@pytest.mark.parametrize("modality", WINDOWED)
def test_a_long_medium_is_the_mean_of_its_windows(
    encoder: MicroBindEncoder, modality: Modality
) -> None:
    windows = encoder.preprocess(modality, long_media(0)[modality])
    side = encoder.sides[modality]
    vectors = side.vectors(side.summary(windows))
    assert not torch.allclose(vectors[0], vectors[-1], atol=1e-3)
    expected = torch.nn.functional.normalize(vectors.mean(dim=0), dim=-1)
    # Measured worst case 6e-8.
    assert torch.allclose(encoder.vectors(modality, windows[None])[0], expected, atol=1e-5)
    assert torch.allclose(encoder.vectors(modality, windows.flip(0)[None])[0], expected, atol=1e-5)


@pytest.mark.parametrize("modality", WINDOWED)
def test_short_and_long_media_share_a_batch(encoder: MicroBindEncoder, modality: Modality) -> None:
    items = [short_media(0), long_media(1), long_media(2), short_media(3)]
    batch = torch.stack([encoder.preprocess(modality, item[modality]) for item in items])
    together = encoder.encode(modality, batch)
    alone = torch.cat([encoder.encode(modality, item[None]) for item in batch])
    # Measured worst case 8e-7.
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("modality", WINDOWED)
def test_the_windows_of_a_short_medium_are_computed_once(
    encoder: MicroBindEncoder, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = encoder.sides[modality]
    items = [encoder.preprocess(modality, short_media(seed)[modality]) for seed in range(2)]
    batch = torch.stack(items)
    assert batch.shape[1] == side.num_windows > 1
    counts: list[int] = []
    original = side.summary

    def counted(windows: torch.Tensor) -> torch.Tensor:
        counts.append(len(windows))
        return original(windows)

    monkeypatch.setattr(side, "summary", counted)
    encoder.encode(modality, batch)
    assert counts == [2]


ODD_MEDIA: dict[str, Medium] = {
    "silence": Audio(np.zeros(8_000, np.float32), 8_000),
    "one sample": Audio(np.ones(1, np.float32), 8_000),
    "six channels": Audio(np.ones((6, 48_000), np.float32), 48_000),
    "192 kHz": Audio(np.ones((2, 192_000), np.float32), 192_000),
    "beyond full scale": Audio(np.full(8_000, 1e30, np.float32), 8_000),
    "one frame": Video(np.zeros((1, 32, 32, 3), np.uint8), 25.0),
    "one pixel": Video(np.zeros((4, 1, 1, 3), np.uint8), 25.0),
    "one frame an hour": Video(np.zeros((2, 8, 8, 3), np.uint8), 1 / 3600),
}


@pytest.mark.parametrize("name", ODD_MEDIA)
def test_features_of_odd_media_are_finite_and_of_the_usual_length(
    encoder: MicroBindEncoder, name: str
) -> None:
    medium = ODD_MEDIA[name]
    values = encoder.preprocess(medium.modality, medium)
    assert values.shape == SHAPES[medium.modality]
    assert torch.isfinite(values).all()
    features = encoder.encode(medium.modality, values[None])
    assert features.norm() == pytest.approx(math.sqrt(16), abs=1e-3)


def test_nothing_is_trainable_and_training_mode_changes_nothing(encoder: MicroBindEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    batch = encoder.preprocess(Modality.IMAGE, media(0)[Modality.IMAGE])[None]
    before = encoder.encode(Modality.IMAGE, batch)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    assert torch.equal(encoder.encode(Modality.IMAGE, batch), before)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_saving_and_reading_back_gives_the_same_features(
    encoder: MicroBindEncoder, trunk: Path, tmp_path: Path
) -> None:
    again = MicroBindEncoder(str(encoder.save_pretrained(tmp_path)), str(trunk))
    assert again.fingerprint() == encoder.fingerprint()
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"config.json", "model.safetensors"}
    batch = encoder.preprocess(Modality.IMAGE, media(0)[Modality.IMAGE])[None]
    assert torch.equal(again.encode(Modality.IMAGE, batch), encoder.encode(Modality.IMAGE, batch))


def test_the_fingerprint_follows_every_weight(part: Path, trunk: Path) -> None:
    changed = MicroBindEncoder(str(part), str(trunk))
    before = changed.fingerprint()
    changed.image.trunk.network._fc.bias[0] += 1e-3
    assert changed.fingerprint() != before


def test_a_side_that_was_not_trained_is_refused_by_name(trunk: Path) -> None:
    sides = {"image": CONFIG["modalities"]["image"]}
    encoder = MicroBindEncoder.from_config({**CONFIG, "modalities": sides}, str(trunk))
    assert encoder.modalities == (Modality.IMAGE,)
    for call in (
        lambda: encoder.feature_shape(Modality.AUDIO),
        lambda: encoder.preprocess(Modality.AUDIO, media(0)[Modality.AUDIO]),
        lambda: encoder.encode(Modality.AUDIO, torch.zeros(1, 2, 16, 16)),
    ):
        with pytest.raises(ValueError, match="encodes image, not audio"):
            call()


def test_a_medium_of_another_kind_is_refused(encoder: MicroBindEncoder) -> None:
    with pytest.raises(ValueError, match="expected audio, got image"):
        encoder.preprocess(Modality.AUDIO, media(0)[Modality.IMAGE])


def test_a_folder_without_a_part_is_named(tmp_path: Path, trunk: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path.name} is no micro-bind part"):
        MicroBindEncoder(str(tmp_path), str(trunk))


def test_weights_of_another_configuration_are_named(
    part: Path, trunk: Path, tmp_path: Path
) -> None:
    other = changed_part(part, tmp_path, head={"hidden_dim": 17})
    with pytest.raises(ValueError, match=r"3 of .* first sides.image.head.layers.2.bias"):
        MicroBindEncoder(other, str(trunk))


def test_an_unknown_option_of_the_configuration_is_named(
    part: Path, trunk: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="deepness"):
        MicroBindEncoder(changed_part(part, tmp_path, deepness=3), str(trunk))


def test_a_part_without_pictures_is_refused(trunk: Path) -> None:
    sides = {"audio": CONFIG["modalities"]["audio"]}
    with pytest.raises(ValueError, match="picture side is missing"):
        MicroBindEncoder.from_config({**CONFIG, "modalities": sides}, str(trunk))


def test_two_trunks_in_one_folder_are_refused(trunk: Path, tmp_path: Path) -> None:
    for name in ("one.pth", "two.pth"):
        shutil.copy(trunk / "trunk.pth", tmp_path / name)
    with pytest.raises(ValueError, match=r"expected one \.pth file of a trunk, found 2"):
        Trunk(**CONFIG["trunk"]).load(tmp_path)


def test_class_names_are_averaged_by_probability(encoder: MicroBindEncoder) -> None:
    side = encoder.image
    features = torch.rand(4, side.trunk.dim, generator=torch.Generator().manual_seed(0))
    probabilities = side.trunk.class_probabilities(features)
    expected = []
    for row in probabilities:
        best = sorted(range(len(row)), key=lambda index: -float(row[index]))[:3]
        mixture = sum(float(row[index]) * side.class_vectors[index] for index in best)
        expected.append(mixture / mixture.norm())
    assert torch.allclose(side.photograph_vectors(features), torch.stack(expected), atol=1e-5)


def test_the_gate_knows_its_drawings_and_doubts_what_is_far() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(6, 40, generator=generator)
    weights = torch.randn(600, 6, generator=generator)
    drawings = 5 + weights @ plane + 0.1 * torch.randn(600, 40, generator=generator)
    gate = DrawingGate(40, 6)
    gate.fit(drawings, torch.arange(600) % 3)
    assert (gate(drawings) > 0.5).float().mean() > 0.99
    others = 5 + 2 * torch.randn(600, 40, generator=generator)
    assert (gate(others) < 0.01).all()


def test_the_gate_measures_the_unexplained_share() -> None:
    gate = DrawingGate(3, 1)
    gate.directions.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
    distances = gate.distance(torch.tensor([[2.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 5.0]]))
    assert torch.allclose(distances, torch.tensor([0.0, 16 / 25, 1.0]))


def test_the_gate_needs_two_artists_and_enough_drawings() -> None:
    with pytest.raises(ValueError, match="at least 2 artists, got 1"):
        DrawingGate(8, 2).fit(torch.rand(9, 8), torch.zeros(9))
    with pytest.raises(ValueError, match="5 drawings do not span 6 directions"):
        DrawingGate(8, 6).fit(torch.rand(10, 8), torch.arange(10) % 2)
