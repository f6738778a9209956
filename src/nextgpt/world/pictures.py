"""From an icon set to pictures: drawings rendered once, then composed into scenes."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from nextgpt.world.concepts import Drawing
from nextgpt.world.scenes import COLOURS, Scene

CANVAS_PX = 128
SPRITE_PX = 256
BACKGROUND_JITTER = 6
"""Largest change of a background's red, green or blue value, of 255."""

ROWS = {2: (0.42, (0.245, 0.755)), 3: (0.25, (0.165, 0.5, 0.835))}
"""Number of things side by side -> longest side of each and their middles, as shares of the canvas.

At 64 pixels four columns or more stay empty between two: one or two are lost in an autoencoder.
"""

# Longest side of a drawing and the centre it is drawn around, as shares of the canvas.
_SIDES = {"medium": 0.72, "small": 0.42, "large": 0.92}
_PLACE_CENTRES = {
    "centre": (0.5, 0.5),
    "left": (0.25, 0.5),
    "right": (0.75, 0.5),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.75),
}
_SIDE_JITTER = 0.05
_CENTRE_JITTER_PX = {"medium": 7, "small": 5, "large": 3}
_ROW_JITTER_PX = 2

Sprite: TypeAlias = Image.Image
"""A rendered drawing: RGBA, at most SPRITE_PX a side, cropped to what is not transparent."""


class IconSet:
    """The drawings of one artist: SVG bodies in an iconify archive.

    Args:
        archive: an npm archive (``.tgz``) of an ``@iconify-json`` package.

    Raises:
        ValueError: the archive holds no icons.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        try:
            with tarfile.open(archive) as tar:
                member = tar.extractfile("package/icons.json")
                if member is None:
                    raise KeyError("package/icons.json")
                self._data: dict[str, Any] = json.load(member)
        except (KeyError, tarfile.TarError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{archive} is no iconify archive ({error}): expected package/icons.json inside"
            ) from error

    def svg(self, icon: str) -> str:
        """Return an icon as an SVG document.

        Raises:
            ValueError: the set has no icon of that name.
        """
        name, seen = icon, set[str]()
        while name not in self._data["icons"]:
            alias = self._data.get("aliases", {}).get(name)
            # NOTE: an iconify alias may also turn or flip its parent; no drawing in use does.
            if alias is None or name in seen or set(alias) - {"parent", "hidden"}:
                raise ValueError(f"icon {icon!r} is not in {self.archive.name}")
            seen.add(name)
            name = alias["parent"]
        entry = self._data["icons"][name]
        left, top = entry.get("left", 0), entry.get("top", 0)
        width = entry.get("width", self._data.get("width", 16))
        height = entry.get("height", self._data.get("height", 16))
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{SPRITE_PX}" height="{SPRITE_PX}">'
            f"{entry['body']}</svg>"
        )


def render(svg: str) -> Sprite:
    """Render an SVG document to a sprite.

    Raises:
        ValueError: nothing is drawn.
    """
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SPRITE_PX, height=SPRITE_PX))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    # Faint shadows and antialiasing do not count as part of the drawing.
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > 24 else 0).getbbox()
    if box is None:
        raise ValueError(f"the drawing is empty: {svg[:120]}")
    return picture.crop(box)


def render_drawings(
    drawings: Iterable[Drawing], icon_sets: Mapping[str, IconSet]
) -> dict[str, Sprite]:
    """Render drawings; the result maps ``Drawing.key`` to a sprite."""
    return {d.key: render(icon_sets[d.artist].svg(d.icon)) for d in drawings}


def compose(
    sprite: Sprite, scene: Scene, rng: random.Random, second: Sprite | None = None
) -> Image.Image:
    """Draw a scene: copies of one sprite, or two, on its background, with small random changes.

    Background colour, size and position vary a little, and half the pictures are mirrored.

    Args:
        sprite: the drawing.
        scene: where, how large, how many; its concept is not looked at.
        rng: source of randomness; the same state gives the same picture.
        second: drawing of what stands to the right of it.

    Returns:
        RGB picture, CANVAS_PX x CANVAS_PX.
    """
    background = background_of(scene.background, rng)
    canvas = Image.new("RGB", (CANVAS_PX, CANVAS_PX), background)
    sprites = [sprite] * scene.count if second is None else [sprite, second]
    if rng.random() < 0.5:
        sprites = [ImageOps.mirror(sprite) for sprite in sprites]
    if len(sprites) > 1:
        side, middles = ROWS[len(sprites)]
        centres, jitter_px = [(x, 0.5) for x in middles], _ROW_JITTER_PX
    else:
        side, centres = _SIDES[scene.size], [_PLACE_CENTRES[scene.place]]
        jitter_px = _CENTRE_JITTER_PX[scene.size]
    side_px = side * rng.uniform(1 - _SIDE_JITTER, 1 + _SIDE_JITTER) * CANVAS_PX
    # Several things move together, so that they never touch.
    shift_x, shift_y = (rng.uniform(-jitter_px, jitter_px) for _ in range(2))
    for each, (centre_x, centre_y) in zip(sprites, centres, strict=True):
        scale = side_px / max(each.size)
        width, height = (max(1, round(length * scale)) for length in each.size)
        copy = each.resize((width, height), Image.Resampling.LANCZOS)
        x = centre_x * CANVAS_PX + shift_x - width / 2
        y = centre_y * CANVAS_PX + shift_y - height / 2
        corner = (
            round(min(max(x, 1), CANVAS_PX - 1 - width)),
            round(min(max(y, 1), CANVAS_PX - 1 - height)),
        )
        canvas.paste(copy, corner, copy)
    return canvas


def background_of(colour: str, rng: random.Random) -> tuple[int, int, int]:
    """Draw a shade of a named background."""
    red, green, blue = (
        min(255, max(0, value + rng.randint(-BACKGROUND_JITTER, BACKGROUND_JITTER)))
        for value in COLOURS[colour]
    )
    return red, green, blue


def difference_hash(sprite: Sprite, side: int = 16) -> np.ndarray:
    """Hash what a drawing looks like: the sign of each horizontal step in brightness.

    Returns:
        (side * side,) bool; close drawings differ in few places.

    Source: N. Krawetz, "Kind of Like That" (dHash), 2013, on a ``side`` x ``side`` grid.
    """
    grey = flatten(sprite).convert("L").resize((side + 1, side), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.int16)
    return (values[:, 1:] > values[:, :-1]).ravel()


def flatten(sprite: Sprite, side_px: int = 64) -> Image.Image:
    """Place a sprite on white, stretched to a square of ``side_px``."""
    square = Image.new("RGB", (side_px, side_px), (255, 255, 255))
    resized = sprite.resize((side_px, side_px), Image.Resampling.LANCZOS)
    square.paste(resized, (0, 0), resized)
    return square
