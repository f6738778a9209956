"""How many things a picture shows, where and how large: read off what stands out from its rim."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nextgpt.evaluation.isolate import background_colour, largest_run, runs_of, thing_mask
from nextgpt.world.scenes import Place

THINNEST = 0.15
"""Share of the fullest column's pixels that a column needs to belong to a thing: tails and wings
of neighbours reach far. With the gap of a pixel 99% of the world's pictures of one, of two and of
three are counted right at 64 pixels, and 98% of those of two different things."""
GAP_PX = 1
LEAST_OF_LARGEST = 0.25
"""Share of the largest thing's pixels that another must have to count; less is a blot."""
OFF_CENTRE = 0.12
"""Distance from the picture's middle, as a share of its side, from which a thing has a place."""


@dataclass(frozen=True)
class Layout:
    """What is seen of a picture without knowing what it shows."""

    count: int
    """Things side by side; 0 where nothing stands out."""
    place: Place
    """Of the largest thing."""
    side: float
    """Longer side of the largest thing, as a share of the picture's."""


def layout_of(picture: Image.Image) -> Layout:
    """Read the layout of a picture on a plain background."""
    mask = thing_mask(picture)
    if not mask.any():
        return Layout(0, "centre", 0.0)
    columns = mask.sum(axis=0)
    count = len(_bodies(columns))
    left, right = largest_run(columns)
    top, bottom = largest_run(mask[:, left:right].sum(axis=1))
    height, width = mask.shape
    x, y = (left + right) / 2 / width - 0.5, (top + bottom) / 2 / height - 0.5
    side = max((right - left) / width, (bottom - top) / height)
    return Layout(count, _place(x, y), side)


def things_in(picture: Image.Image) -> list[Image.Image]:
    """Part the things that stand side by side: from the left, each alone on its background."""
    columns = thing_mask(picture).sum(axis=0)
    bodies = _bodies(columns) if columns.any() else []
    middles = [(end + start) // 2 for (_, end), (start, _) in itertools.pairwise(bodies)]
    things = []
    for left, right in itertools.pairwise([0, *middles, picture.width]) if bodies else ():
        alone = Image.new("RGB", picture.size, background_colour(picture))
        alone.paste(picture.crop((left, 0, right, picture.height)), (left, 0))
        things.append(alone)
    return things


def _bodies(columns: np.ndarray) -> list[tuple[int, int]]:
    """Find start and end of the things in a row, given each column's pixels of things."""
    runs = runs_of(columns > THINNEST * columns.max(), GAP_PX)
    pixels = [int(columns[start:end].sum()) for start, end in runs]
    least = LEAST_OF_LARGEST * max(pixels)
    return [run for run, number in zip(runs, pixels, strict=True) if number >= least]


def _place(x: float, y: float) -> Place:
    """Name the side of the middle that a thing stands on."""
    if max(abs(x), abs(y)) < OFF_CENTRE:
        return "centre"
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "bottom" if y > 0 else "top"
