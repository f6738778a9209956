"""Cutting out what a picture on a plain background shows."""

from __future__ import annotations

import numpy as np
from PIL import Image

TOLERANCE = 24
"""Difference from the background, of 255, from which a pixel belongs to the thing."""
MIN_NEIGHBOURS = 4
"""Pixels of a 3 x 3 neighbourhood that must belong to the thing; fewer are noise."""
MIN_PIXELS = 30
GAP_PX = 2
"""Two things have more empty rows or columns than this between them."""
MARGIN = 0.08
"""Background kept on either side, as a share of the thing's longer side."""


def background_colour(picture: Image.Image) -> tuple[int, int, int]:
    """Return the median RGB colour of a picture's outermost pixels."""
    values = np.asarray(picture.convert("RGB"))
    rim = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    red, green, blue = (int(value) for value in np.median(rim, axis=0))
    return red, green, blue


def isolate(picture: Image.Image) -> Image.Image:
    """Cut out the largest thing on a plain background, with a margin around it.

    Of several things in a row only the largest is kept, so that size, place and count do not matter
    to whoever looks at the result.

    Returns:
        RGB square in the background's colour with the thing in its middle; the picture itself where
        nothing stands out from its background.
    """
    picture = picture.convert("RGB")
    colour = background_colour(picture)
    difference = np.abs(np.asarray(picture, dtype=np.int16) - np.array(colour, np.int16))
    thing = _without_specks(difference.max(axis=2) > TOLERANCE)
    if thing.sum() < MIN_PIXELS:
        return picture
    left, right = _largest_run(thing.sum(axis=0))
    top, bottom = _largest_run(thing[:, left:right].sum(axis=1))
    side = round(max(right - left, bottom - top) * (1 + 2 * MARGIN))
    width, height = picture.size
    # The blurred edge belongs to the thing, too.
    box = (max(0, left - 2), max(0, top - 2), min(width, right + 2), min(height, bottom + 2))
    square = Image.new("RGB", (side, side), colour)
    corner = (box[0] - round((left + right - side) / 2), box[1] - round((top + bottom - side) / 2))
    square.paste(picture.crop(box), corner)
    return square


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Keep the (H, W) bool pixels with enough neighbours."""
    height, width = mask.shape
    padded = np.pad(mask, 1).astype(np.int8)
    neighbours = sum(
        padded[row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    )
    return mask & (neighbours >= MIN_NEIGHBOURS)


def _largest_run(amounts: np.ndarray) -> tuple[int, int]:
    """Find start and end of the run with the largest sum; runs are parted by GAP_PX zeros."""
    filled = np.flatnonzero(amounts)
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > GAP_PX) + 1)
    largest = max(runs, key=lambda run: int(amounts[run].sum()))
    return int(largest[0]), int(largest[-1]) + 1
