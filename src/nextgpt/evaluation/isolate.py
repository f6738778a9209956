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
    thing = thing_mask(picture)
    if thing.sum() < MIN_PIXELS:
        return picture
    left, right = largest_run(thing.sum(axis=0))
    top, bottom = largest_run(thing[:, left:right].sum(axis=1))
    side = round(max(right - left, bottom - top) * (1 + 2 * MARGIN))
    width, height = picture.size
    # The blurred edge belongs to the thing, too.
    box = (max(0, left - 2), max(0, top - 2), min(width, right + 2), min(height, bottom + 2))
    square = Image.new("RGB", (side, side), colour)
    corner = (box[0] - round((left + right - side) / 2), box[1] - round((top + bottom - side) / 2))
    square.paste(picture.crop(box), corner)
    return square


def thing_mask(picture: Image.Image) -> np.ndarray:
    """Tell for each pixel whether it stands out from the background: (H, W) bool."""
    colour = np.array(background_colour(picture), np.int16)
    difference = np.abs(np.asarray(picture.convert("RGB"), dtype=np.int16) - colour)
    return _without_specks(difference.max(axis=2) > TOLERANCE)


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


def runs_of(amounts: np.ndarray, gap_px: int = GAP_PX) -> list[tuple[int, int]]:
    """Find start and end of the runs of amounts; they are parted by more than ``gap_px`` zeros."""
    filled = np.flatnonzero(amounts)
    if not len(filled):
        return []
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > gap_px) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


def largest_run(amounts: np.ndarray) -> tuple[int, int]:
    """Find start and end of the run with the largest sum.

    Raises:
        ValueError: all amounts are zero.
    """
    return max(runs_of(amounts), key=lambda run: int(amounts[run[0] : run[1]].sum()))
