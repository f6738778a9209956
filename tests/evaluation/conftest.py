"""A tiny world and a tiny random chain to measure: what all tests of rows share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from dialogue_items import clip_item, picture_item, sound_item
from tiny_chain import tiny_chain
from tiny_media import Sines

from nextgpt.data.manifest import Item, write_manifest
from nextgpt.evaluation.judge import Judge, JudgeNetwork
from nextgpt.evaluation.material import Material
from nextgpt.evaluation.photographs import Photograph
from nextgpt.evaluation.runner import Evaluation
from nextgpt.evaluation.sound_judge import SoundJudge, SoundJudgeNetwork
from nextgpt.generation import NextGPT
from nextgpt.media import Audio, Image, Video
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.motions import LOOPS, MOTIONS, OWN_HELD_OUT, MotionScene, animate
from nextgpt.world.scenes import COLOURS, Scene
from nextgpt.world.sounds import INSTRUMENTS, SoundScene
from nextgpt.world.synthesis import SAMPLE_RATE_HZ, perform

if TYPE_CHECKING:
    from conftest import TinyParts

LIMIT = 4
NUM_CLIPS = 10


def write_pictures(folder: Path) -> list[Item]:
    """Every concept once in each split, as a square whose place is the concept's own."""
    items = []
    for number, concept in enumerate(CONCEPTS):
        background = list(COLOURS)[number % len(COLOURS)]
        picture = PIL.Image.new("RGB", (64, 64), COLOURS[background])
        PIL.ImageDraw.Draw(picture).rectangle([number, 8, number + 20, 40], (90, 60, 120))
        for split in ("train", "validation", "held_out_drawing", "held_out_pair"):
            items.append(picture_item(f"{concept}-{split}", Scene(concept, background), split))
            Image(picture).save(folder / items[-1].path)
    for split in ("train", "held_out_pair"):
        items.append(picture_item(f"couple-{split}", Scene("dog", "white", second="cat"), split))
        Image(picture).save(folder / items[-1].path)
    return items


def write_sounds(folder: Path) -> list[Item]:
    """Every instrument once in each split, played on sines."""
    items = []
    for number, name in enumerate(INSTRUMENTS):
        contour = None if name == "drum" else ("rising", "falling")[number % 2]
        scene = SoundScene(name, 3, contour=contour)
        waveform = perform(scene, random.Random(number), Sines(), {})
        for split in ("train", "validation", "held_out_recording"):
            items.append(sound_item(f"{name}-{split}", scene, split))
            Audio(waveform, sample_rate_hz=SAMPLE_RATE_HZ).save(folder / items[-1].path)
    return items


def write_clips(folder: Path) -> list[Item]:
    """Some concepts in the motions in turn, and held-out loops, as a square that moves."""
    sprite = PIL.Image.new("RGBA", (100, 140), (90, 60, 120, 255))
    items = []
    for number, concept in enumerate(list(CONCEPTS)[:NUM_CLIPS]):
        scene = MotionScene(concept, "white", list(MOTIONS)[number % len(MOTIONS)])
        frames = animate(sprite, scene, random.Random(number))
        for split in ("train", "validation", "held_out_drawing"):
            items.append(clip_item(f"clip-{concept}-{split}", scene, split))
            Video(frames, frames_per_second=4).save(folder / items[-1].path)
    for concept in LOOPS[OWN_HELD_OUT]:
        scene = MotionScene(concept, "white", OWN_HELD_OUT)
        items.append(clip_item(f"loop-{concept}", scene, "held_out_loop"))
        Video(frames, frames_per_second=4).save(folder / items[-1].path)
    return items


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of a few media of each modality."""
    folder = tmp_path_factory.mktemp("world")
    items = [*write_pictures(folder), *write_sounds(folder), *write_clips(folder)]
    write_manifest(folder / "manifest.jsonl", items)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="session")
def material() -> Material:
    """Judges that have learned nothing, two pictures as photographs, a little prose."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge, sound_judge = Judge(JudgeNetwork(image_size=32)), SoundJudge(SoundJudgeNetwork())
    shown = [
        Photograph(f"somewhere-{name}", Image(PIL.Image.new("RGB", (90, 60), colour)), name)
        for name, colour in (("dog", "brown"), ("cat", "grey"))
    ]
    return Material(
        judge, sound_judge, shown, "The harbour was quiet when the boats came in. " * 20
    )


@pytest.fixture(scope="session")
def assistant(tiny: TinyParts) -> NextGPT:
    """A chain that answers at random, in every modality."""
    return NextGPT(tiny_chain(tiny))


@pytest.fixture(scope="session")
def measured(
    assistant: NextGPT,
    manifest: Path,
    material: Material,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Evaluation]:
    """Its measurement, of LIMIT cases a row."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEXTGPT_CACHE", str(out / "cache"))
        yield Evaluation(assistant, manifest, material, out, LIMIT)
