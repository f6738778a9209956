"""The recipe of docs/finetune.md, shortened: the shipped model learns three things it never saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import pytest
import torch
import yaml
from torchvision.transforms.functional import pil_to_tensor

from nextgpt import Image, Message, NextGPT
from nextgpt.cli import main
from nextgpt.configuration import read_config
from nextgpt.world.build import build_world
from nextgpt.world.scenes import COLOURS

RECIPES = Path(__file__).parents[1] / "configs" / "finetune"
SIDE_PX = 128
SEEN = ("red", "blue", "white", "yellow", "pink", "orange")
UNSEEN = "purple"
NUM_COMPARED = 20
DECODER_STEPS, CHAIN_STEPS = 160, 50

pytestmark = pytest.mark.training

Pen = PIL.ImageDraw.ImageDraw


def lighthouse(pen: Pen, rng: random.Random) -> None:
    top, base = rng.randint(9, 12), rng.randint(20, 25)
    red, white = (215, 40, 45), (245, 245, 245)
    for stripe in range(5):
        upper, lower = (top + (base - top) * n / 5 for n in (stripe, stripe + 1))
        y, colour = 34 + stripe * 17, white if stripe % 2 else red
        corners = [(64 - upper, y), (64 + upper, y), (64 + lower, y + 17), (64 - lower, y + 17)]
        pen.polygon(corners, colour, (90, 90, 100))
    pen.rectangle([54, 18, 74, 34], (255, 225, 90), (60, 60, 70))
    pen.polygon([(50, 18), (78, 18), (64, 5)], (60, 60, 70))


def kite(pen: Pen, rng: random.Random) -> None:
    wide, low = rng.randint(34, 42), rng.randint(82, 92)
    colours = ((60, 170, 80), (130, 60, 170), (240, 240, 90), (240, 130, 40))
    tips = ((64, 8), (64 + wide, 44), (64, low), (64 - wide, 44))
    for tip, next_tip, colour in zip(tips, (*tips[1:], tips[0]), colours, strict=True):
        pen.polygon([(64, 44), tip, next_tip], colour, (50, 50, 60))
    pen.line([(64, low), (74, low + 12), (58, low + 22), (70, 124)], (50, 50, 60), 3)


def traffic_light(pen: Pen, rng: random.Random) -> None:
    width = rng.randint(44, 52)
    pen.rounded_rectangle([64 - width // 2, 8, 64 + width // 2, 120], 10, (45, 45, 50))
    for centre, colour in ((28, (230, 40, 40)), (64, (250, 200, 40)), (100, (50, 190, 80))):
        pen.ellipse([50, centre - 14, 78, centre + 14], colour)


THINGS: dict[str, Callable[[Pen, random.Random], None]] = {
    "lighthouse": lighthouse,
    "kite": kite,
    "traffic light": traffic_light,
}


def drawn(thing: str, background: str, seed: int) -> PIL.Image.Image:
    """Draw a thing, a little different with every seed."""
    rng = random.Random(seed)
    picture = PIL.Image.new("RGB", (SIDE_PX, SIDE_PX), COLOURS[background])
    THINGS[thing](PIL.ImageDraw.Draw(picture), rng)
    return picture.rotate(rng.uniform(-6, 6), fillcolor=COLOURS[background])


def small(config: dict[str, Any], world: Path) -> dict[str, Any]:
    """Shorten the recipe of the chain: a smaller world, fewer steps."""
    data = config["data"]["init_args"]
    data["batch_size"] = 8
    for source in data["train"]:
        arguments = source.get("init_args", {})
        if "manifest" not in arguments:
            arguments["manifest"] = str(world / "manifest.jsonl")
            arguments["num_items"] = 200
    # The language model's own words take minutes to be sampled.
    config["model"]["init_args"]["keeps"] = None
    data["validation"] = []
    config["trainer"] |= {"max_steps": CHAIN_STEPS, "val_check_interval": None}
    return config


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NextGPT]:
    """The shipped model, taught from eighteen pictures."""
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "pictures").mkdir()
    for thing in THINGS:
        for seed, background in enumerate(SEEN):
            name = f"a {thing} on a {background} background.png"
            drawn(thing, background, seed).save(folder / "pictures" / name)
    world = folder / "world"
    build_world(world, num_train=400, num_sounds=0, num_clips=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("checkpoints").symlink_to(RECIPES.parents[1] / "checkpoints")
        add = [
            "world",
            "add",
            "--folder",
            "pictures",
            "--out",
            "runs/own/world",
            "--world",
            str(world),
        ]
        assert main(add) == 0
        steps = ["--trainer.max_steps", str(DECODER_STEPS), "--trainer.val_check_interval", "null"]
        assert main(["fit", "-c", str(RECIPES / "image.yaml"), *steps]) == 0
        config = small(read_config(RECIPES / "chain.yaml"), world)
        config["model"]["init_args"]["chain"]["decoders"]["image"]["init_args"]["source"] = str(
            folder / "runs/own/image"
        )
        Path("chain.yaml").write_text(yaml.safe_dump(config))
        assert main(["fit", "-c", "chain.yaml"]) == 0
        yield NextGPT.from_pretrained("runs/own/model")


def pixels(picture: PIL.Image.Image) -> torch.Tensor:
    """A picture as the decoder sees it, (3, 64, 64) in 0..255."""
    return pil_to_tensor(picture.resize((64, 64), PIL.Image.Resampling.BOX)).float()


def distance(picture: PIL.Image.Image, thing: str) -> float:
    """Root mean square to the most alike of some drawings of a thing that were not trained on."""
    others = (pixels(drawn(thing, UNSEEN, 100 + n)) for n in range(NUM_COMPARED))
    return min(float((pixels(picture) - other).square().mean().sqrt()) for other in others)


def media(reply: Message) -> list[str]:
    return [medium.modality for medium in reply.media]


@pytest.mark.parametrize("thing", THINGS)
def test_a_new_thing_is_drawn_when_it_is_asked_for(taught: NextGPT, thing: str) -> None:
    reply = taught.chat(f"Please draw a {thing} on a {UNSEEN} background.", seed=1)
    assert media(reply) == ["image"]
    distances = {name: distance(reply.images[0].pil, name) for name in THINGS}
    assert min(distances, key=distances.__getitem__) == thing, distances


@pytest.mark.parametrize("thing", THINGS)
def test_a_new_thing_is_named_when_it_is_shown(taught: NextGPT, thing: str) -> None:
    reply = taught.chat([Image(drawn(thing, UNSEEN, 50)), "What is in this picture?"], seed=1)
    assert thing in reply.text
    assert media(reply) == []


def test_what_was_known_is_kept(taught: NextGPT) -> None:
    assert media(taught.chat("Please draw a dog on a blue background.", seed=1)) == ["image"]
    assert media(taught.chat("Let me hear a trumpet.", seed=1)) == ["audio"]
    assert media(taught.chat("Hello! How are you today?", seed=1)) == []
    assert "dog" in taught.chat("Please draw a dog on a blue background.", seed=1).text
