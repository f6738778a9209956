"""The recipe of docs/finetune.md, shortened: the shipped model learns three things it never saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import pytest
import torch
import yaml

from nextgpt import Image, Message, NextGPT
from nextgpt.cli import main
from nextgpt.configuration import read_config
from nextgpt.modality import Modality
from nextgpt.world.build import build_world
from nextgpt.world.scenes import COLOURS

RECIPES = Path(__file__).parents[1] / "configs" / "finetune"
SIDE_PX = 128
SEEN = ("red", "blue", "white", "yellow", "pink", "orange")
UNSEEN = "purple"
DECODER_STEPS, CHAIN_STEPS = 160, 50

pytestmark = pytest.mark.training

Pen = PIL.ImageDraw.ImageDraw


def cactus(pen: Pen, rng: random.Random) -> None:
    green, width = (30, 120 + rng.randint(-15, 15), 50), rng.randint(20, 26)
    pen.rounded_rectangle([64 - width // 2, 18, 64 + width // 2, 112], width // 2, green)
    for side in (-1, 1):
        height, reach = rng.randint(40, 70), 64 + side * rng.randint(30, 38)
        pen.line([(64, height + 14), (reach, height + 14), (reach, height - 14)], green, 13)
    pen.polygon([(40, 100), (88, 100), (80, 124), (48, 124)], (170, 80, 40))


def snowman(pen: Pen, rng: random.Random) -> None:
    white, black = (235, 240, 250), (25, 25, 30)
    for radius, centre in ((30, 94), (22, 52)):
        box = [64 - radius, centre - radius, 64 + radius, centre + radius]
        pen.ellipse(box, white, (120, 130, 150), 2)
    pen.rectangle([46, 10, 82, 32], black)
    pen.rectangle([38, 30, 90, 36], black)
    for left in (54, 70):
        pen.ellipse([left, 44, left + 6, 50], black)
    pen.polygon([(64, 54), (64, 60), (86 + rng.randint(-4, 4), 58)], (245, 130, 30))
    for height in (82, 96, 108):
        pen.ellipse([61, height, 67, height + 6], black)


def traffic_light(pen: Pen, rng: random.Random) -> None:
    width = rng.randint(44, 52)
    pen.rounded_rectangle([64 - width // 2, 8, 64 + width // 2, 120], 10, (45, 45, 50))
    for centre, colour in ((28, (230, 40, 40)), (64, (250, 200, 40)), (100, (50, 190, 80))):
        pen.ellipse([50, centre - 14, 78, centre + 14], colour)


THINGS: dict[str, Callable[[Pen, random.Random], None]] = {
    "cactus": cactus,
    "snowman": snowman,
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
        if "manifest" not in arguments and not source["class_path"].endswith("OwnWords"):
            arguments["manifest"] = str(world / "manifest.jsonl")
            arguments["num_items"] = 200
    # The language model's own words take minutes to be sampled.
    data["train"], data["weights"] = data["train"][:-1], data["weights"][:-1]
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


@cache
def look(model: NextGPT, thing: str) -> torch.Tensor:
    """What the encoder makes of drawings of a thing that were not trained on, (D,)."""
    encoder = model.model.encoder
    pictures = [Image(drawn(thing, colour, 100 + n)) for n, colour in enumerate(SEEN)]
    pixels = torch.stack([encoder.preprocess(Modality.IMAGE, each) for each in pictures])
    with torch.inference_mode():
        return encoder.encode(Modality.IMAGE, pixels).flatten(1).mean(0)


def media(reply: Message) -> list[str]:
    return [medium.modality for medium in reply.media]


@pytest.mark.parametrize("thing", THINGS)
def test_a_new_thing_is_drawn_when_it_is_asked_for(taught: NextGPT, thing: str) -> None:
    reply = taught.chat(f"Please draw a {thing} on a {UNSEEN} background.", seed=1)
    assert media(reply) == ["image"]
    encoder = taught.model.encoder
    pixels = encoder.preprocess(Modality.IMAGE, reply.images[0])[None]
    with torch.inference_mode():
        seen = encoder.encode(Modality.IMAGE, pixels).flatten()
    alike = {name: float(torch.cosine_similarity(seen, look(taught, name), 0)) for name in THINGS}
    assert max(alike, key=alike.__getitem__) == thing


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
