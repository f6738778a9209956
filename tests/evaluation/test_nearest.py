"""A copy of a training medium is as near as can be, and vectors are made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dialogue_items import clip_item, picture_item, sound_item

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item
from nextgpt.evaluation.nearest import Nearest, middle_frame, vector_of
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.world.motions import MotionScene
from nextgpt.world.scenes import Scene
from nextgpt.world.sounds import SoundScene

pytestmark = pytest.mark.usefixtures("own_cache")

ITEMS = {
    "image": [picture_item(f"picture-{n}", Scene("dog", "red"), "train") for n in range(5)],
    "audio": [sound_item(f"sound-{n}", SoundScene("dog"), "train") for n in range(5)],
    "video": [clip_item(f"clip-{n}", MotionScene("dog", "red", "up"), "train") for n in range(5)],
}


def noise(modality: str, seed: int) -> Medium:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 4, 4, 3), np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    if modality == "image":
        return Image(coarse[0])
    if modality == "video":
        return Video(coarse, frames_per_second=4)
    times = np.arange(40_960) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 200 * (seed + 1) * times) * np.exp(-times)
    return Audio(tone.astype(np.float32), sample_rate_hz=16_000)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for modality, items in ITEMS.items():
        for number, item in enumerate(items):
            noise(modality, number).save(folder / item.path)
    return folder / "manifest.jsonl"


@pytest.mark.parametrize("modality", ITEMS)
def test_a_copy_is_as_like_as_can_be_and_another_medium_less(manifest: Path, modality: str) -> None:
    items: list[Item] = ITEMS[modality]
    nearest = Nearest(items, manifest)
    copies = [medium_of(item, manifest) for item in items]
    # Worst: 0.9996, half precision.
    found = nearest.neighbours(copies)
    assert min(neighbour.similarity for neighbour in found) > 0.999
    assert [n.medium.path for n in found] == [copy.path for copy in copies]
    others = [noise(modality, seed) for seed in range(7, 12)]
    assert max(neighbour.similarity for neighbour in nearest.neighbours(others)) < 0.98


def test_vectors_are_kept_and_not_made_again(manifest: Path) -> None:
    first = Nearest(ITEMS["image"], manifest)
    time = first.path.stat().st_mtime_ns
    second = Nearest(ITEMS["image"], manifest)
    assert second.path == first.path
    assert second.path.stat().st_mtime_ns == time
    assert Nearest(ITEMS["image"][:3], manifest).path != first.path


def test_brightness_and_contrast_hardly_matter() -> None:
    picture = np.asarray(noise("image", 0).pil)  # type: ignore[attr-defined]
    darker = vector_of(Image((picture // 2 + 10).astype(np.uint8)))
    assert darker @ vector_of(Image(picture)) > 0.99


def test_a_vector_has_unit_length_even_of_nothing() -> None:
    assert np.linalg.norm(vector_of(noise("audio", 1))) == pytest.approx(1, abs=1e-5)
    flat = vector_of(Image(np.full((32, 32, 3), 90, np.uint8)))
    assert np.linalg.norm(flat) < 1e-3


def test_the_middle_frame_is_taken_of_a_clip() -> None:
    frames = np.stack([np.full((16, 16, 3), 20 * n, np.uint8) for n in range(8)])
    assert middle_frame(Video(frames, frames_per_second=4)).getpixel((3, 3)) == (80, 80, 80)


def test_no_media_have_no_neighbours(manifest: Path) -> None:
    assert Nearest(ITEMS["image"], manifest).neighbours([]) == []
