"""Which of the programmed motions a clip shows, by what stands out from its background."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 64
"""Height and width that frames are looked at."""
DISTANCE = 26.0
"""Difference from the background, of 255, from which a pixel belongs to the thing."""
SMALLEST, LARGEST = 0.01, 0.75
"""Share of a frame that a thing may fill; noise fills more."""

FULL_PATH, FULL_HEIGHT, FULL_GROWTH = 0.42, 0.3, 1.05
"""How far a programmed motion goes: shares of the frame, and the logarithm of the side."""
LEAST = 0.35
"""Share of the full way from which a motion counts."""
STEADY = 0.9
"""Correlation with the programmed course from which a motion counts."""

NUM_ANGLES, NUM_RADII = 72, 12
ALIKE = 0.55
"""Correlation from which two frames show the same thing, turned."""
BETTER_TURNED = 0.05
"""How much more alike two frames must be turned than as they are."""
SAME_ANGLE = 0.7
"""Length of the mean of the turns, as unit vectors, from which they are by the same angle."""
SMALLEST_TURN = 0.15
"""Radians from frame to frame."""


@dataclass(frozen=True)
class Thing:
    """What stands out in one frame; lengths as shares of the frame's side."""

    x: float
    y: float
    side: float
    """Square root of its area."""
    difference: np.ndarray
    """(S, S, 3) its colours less the background's, 0 outside of it."""


def motion_in(frames: np.ndarray) -> str | None:
    """Name the motion of the one thing in a clip.

    Args:
        frames: (T, H, W, 3) uint8, T at least 4.

    Returns:
        A name in ``MOTIONS``; None where nothing moves so, or no single thing is seen throughout.
    """
    things = [thing for thing in map(thing_in, frames) if thing is not None]
    if len(things) < len(frames):
        return None
    times = np.linspace(0, 1, len(things))
    x, y = np.array([t.x for t in things]), np.array([t.y for t in things])
    ways = {
        ("right", "left"): _course(times, x) / FULL_PATH,
        ("down", "up"): _course(times, y) / FULL_PATH,
        ("grow", "shrink"): _course(times, np.log([t.side for t in things])) / FULL_GROWTH,
        # Higher is a smaller y; a clip may hold one to three bounces.
        ("bounce", None): -min(
            _course(np.abs(np.sin(math.pi * count * times)), y) for count in (1, 2, 3)
        )
        / FULL_HEIGHT,
    }
    motions = max(ways, key=lambda motions: abs(ways[motions]))
    if abs(ways[motions]) >= LEAST:
        return motions[0] if ways[motions] > 0 else motions[1]
    return "spin" if _turn_alike(things) else None


def thing_in(frame: np.ndarray) -> Thing | None:
    """Find what stands out from the background, if it is of a sensible size."""
    picture = Image.fromarray(frame).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    values = _smooth(np.asarray(picture, dtype=np.float32))
    inside = np.zeros((SIDE_PX, SIDE_PX), bool)
    inside[2:-2, 2:-2] = True
    difference = values - np.median(values[~inside], axis=0)
    mask = np.abs(difference).max(axis=2) > DISTANCE
    if not SMALLEST < mask.mean() < LARGEST:
        return None
    rows, columns = np.nonzero(mask)
    return Thing(
        float(columns.mean()) / SIDE_PX,
        float(rows.mean()) / SIDE_PX,
        math.sqrt(float(mask.mean())),
        difference * mask[..., None],
    )


def _smooth(values: np.ndarray) -> np.ndarray:
    """Average each pixel of (S, S, 3) with its neighbours."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[r : r + SIDE_PX, c : c + SIDE_PX] for r in range(3) for c in range(3)]
    return np.mean(shifted, axis=0)


def _course(programmed: np.ndarray, values: np.ndarray) -> float:
    """Measure how far values go along a programmed course from 0 to 1; 0 where they do not."""
    if values.std() < 1e-6 or abs(np.corrcoef(programmed, values)[0, 1]) < STEADY:
        return 0.0
    return float(np.polyfit(programmed, values, 1)[0])


def _turn_alike(things: list[Thing]) -> bool:
    """Tell whether each frame shows the thing of the one before, turned by about the same angle."""
    radius = 0.8 * max(thing.side for thing in things)
    rings = np.stack([_rings(thing, radius) for thing in things])
    spectra = np.fft.rfft(rings, axis=1)
    products = (spectra[:-1].conj() * spectra[1:]).sum(axis=(2, 3))
    lengths = np.sqrt(np.square(rings).sum(axis=(1, 2, 3)))
    scale = np.maximum(lengths[:-1] * lengths[1:], 1e-6)
    matches = np.fft.irfft(products, NUM_ANGLES, axis=1) / scale[:, None]
    turn = np.exp(2j * math.pi * matches.argmax(axis=1) / NUM_ANGLES).mean()
    turned, unturned = matches.max(axis=1).mean(), matches[:, 0].mean()
    return bool(
        turned > ALIKE
        and turned - unturned > BETTER_TURNED
        and abs(turn) > SAME_ANGLE
        and abs(np.angle(turn)) > SMALLEST_TURN
    )


def _rings(thing: Thing, radius: float) -> np.ndarray:
    """Read a thing's colours on rings around its middle: (NUM_ANGLES, NUM_RADII, 3)."""
    angles = np.linspace(0, 2 * math.pi, NUM_ANGLES, endpoint=False)[:, None]
    radii = (np.arange(NUM_RADII) + 0.5) / NUM_RADII * radius
    last = SIDE_PX - 1
    columns = ((thing.x + np.cos(angles) * radii) * SIDE_PX).round().astype(int).clip(0, last)
    rows = ((thing.y + np.sin(angles) * radii) * SIDE_PX).round().astype(int).clip(0, last)
    # Outer rings are longer.
    return thing.difference[rows, columns] * np.sqrt(radii)[None, :, None]
