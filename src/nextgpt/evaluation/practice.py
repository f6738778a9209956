"""Pictures that the judge practises on: its drawings, redrawn as other hands might have done it."""

from __future__ import annotations

import colorsys
import random
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from nextgpt.evaluation.isolate import background_colour, isolate
from nextgpt.world.concepts import CONCEPTS, Drawing
from nextgpt.world.pictures import Sprite, compose, render
from nextgpt.world.scenes import sample_scene

PICTURE_PX = 64
"""Size of the generated pictures; practice pictures are made as coarse as these."""
NUM_COLOURINGS = 8
"""Colourings of one drawing; two of them keep the artist's colours."""
WARP_PROBABILITY = 0.8
WARP = 0.14
"""How far the corners of a drawing are pulled at most, as a share of its side."""
COLOUR = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")


class PracticePictures(Dataset):
    """Labelled pictures, concepts in turn; each comes from its index alone.

    Args:
        drawings: The drawings, with their SVG documents.
        num_pictures: How many pictures.
        image_size: Height and width of the pictures in pixels.
        seed: Another seed gives other pictures of the same drawings.
    """

    def __init__(
        self,
        drawings: Sequence[tuple[Drawing, str]],
        num_pictures: int,
        image_size: int,
        seed: int = 0,
    ) -> None:
        self.by_concept: dict[str, list[tuple[Drawing, str]]] = defaultdict(list)
        for drawing, svg in drawings:
            self.by_concept[drawing.concept].append((drawing, svg))
        self.num_pictures = num_pictures
        self.image_size = image_size
        self.seed = seed
        self._sprites: dict[tuple[str, int], Sprite] = {}

    def __len__(self) -> int:
        """Number of pictures."""
        return self.num_pictures

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One picture, (3, S, S) uint8, and the number of its concept."""
        rng = random.Random(f"{self.seed}/{index}")
        concepts = [concept for concept in CONCEPTS if concept in self.by_concept]
        concept = concepts[index % len(concepts)]
        drawing, svg = rng.choice(self.by_concept[concept])
        sprite = self._sprite(drawing, svg, rng.randrange(NUM_COLOURINGS))
        if rng.random() < WARP_PROBABILITY:
            sprite = warp(sprite, rng)
        scene = sample_scene(rng, concept, None, single=drawing.view != "whole")
        picture = isolate(coarsen(compose(sprite, scene, rng), rng))
        square = picture.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        return pixels.contiguous(), list(CONCEPTS).index(concept)

    def _sprite(self, drawing: Drawing, svg: str, colouring: int) -> Sprite:
        key = drawing.key, colouring
        if key not in self._sprites:
            if colouring >= 2:
                svg = recolour(svg, random.Random(f"{self.seed}/{drawing.key}/{colouring}"))
            self._sprites[key] = render(svg)
        return self._sprites[key]


def recolour(svg: str, rng: random.Random) -> str:
    """Give a drawing other colours, all alike turned and each a little on its own; maybe no lines.

    Args:
        svg: SVG document with hexadecimal colours.
        rng: Source of randomness; the same state gives the same drawing.
    """
    turn = rng.random() if rng.random() < 0.5 else rng.uniform(-0.06, 0.06)
    strength = rng.uniform(0.5, 1.4)
    changed: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        colour = match.group()
        if colour not in changed:
            digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
            rgb = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
            hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
            hue = (hue + turn + rng.gauss(0, 0.03)) % 1
            saturation = min(1, max(0, saturation * strength + rng.gauss(0, 0.08)))
            value = min(1, max(0, value * rng.uniform(0.75, 1.25) + rng.gauss(0, 0.06)))
            if rng.random() < 0.08:
                value = rng.random()
            levels = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
            changed[colour] = "#" + "".join(f"{level:02x}" for level in levels)
        return changed[colour]

    svg = COLOUR.sub(other, svg)
    if rng.random() < 0.5:
        lineless = re.sub(r'stroke="#[0-9a-f]{6}"', 'stroke="none"', svg)
        # A drawing may be nothing but lines.
        svg = lineless if "fill=" in svg else svg
    return svg


def warp(sprite: Sprite, rng: random.Random) -> Sprite:
    """Turn a drawing a little and pull its corners: another pose, other proportions."""
    width, height = sprite.size
    margin = max(width, height) // 4
    canvas = Image.new("RGBA", (width + 2 * margin, height + 2 * margin))
    canvas.paste(sprite, (margin, margin))
    right, bottom = canvas.size
    rows, values = [], []
    for x, y in ((0, 0), (right, 0), (right, bottom), (0, bottom)):
        u = x + rng.uniform(-WARP, WARP) * width
        v = y + rng.uniform(-WARP, WARP) * height
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    coefficients = tuple(np.linalg.solve(np.array(rows), np.array(values)))
    canvas = canvas.transform(
        canvas.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    ).rotate(rng.gauss(0, 12), Image.Resampling.BICUBIC)
    box = canvas.getchannel("A").point(lambda alpha: 255 if alpha > 24 else 0).getbbox()
    return canvas.crop(box) if box else sprite


def coarsen(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Change a picture in the ways a generator may: colours, blur, noise, lost detail.

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
    if rng.random() < 0.45:
        share = rng.uniform(0.35, 0.8)
        small = round(width * share), round(PICTURE_PX * share)
        picture = picture.resize(small, Image.Resampling.BILINEAR)
        picture = picture.resize((width, PICTURE_PX), Image.Resampling.BICUBIC)
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.MedianFilter(3))
    return picture


def _turn_hue(picture: Image.Image, turn: float) -> Image.Image:
    """Turn all hues by a share of the colour circle."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([round(level + 255 * turn) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
