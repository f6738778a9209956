"""Clips of the micro world: cut-outs that move, and loops that an artist animated."""

from __future__ import annotations

import io
import math
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps

from nextgpt.world.concepts import CONCEPTS, STYLES
from nextgpt.world.pictures import CANVAS_PX, Sprite, background_of
from nextgpt.world.scenes import COLOURS, trained_backgrounds, with_article

NUM_FRAMES = 8
FRAMES_PER_SECOND = 4.0

MOTIONS: dict[str, str] = {
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "grow": "growing",
    "shrink": "shrinking",
    "spin": "spinning",
    "bounce": "bouncing",
}
"""Programmed motion -> how captions say it."""

OWN = "own"
"""The motion that an artist gave a loop."""
OWN_HELD_OUT = "own_held_out"
"""Likewise, of a loop that training never shows."""


@dataclass(frozen=True)
class Loop:
    """One animated drawing: a code point of the Fluent set and what happens in it."""

    code_point: str
    phrase: str


LOOPS: Mapping[str, Mapping[str, Loop]] = {
    OWN: {
        "dog": Loop("1f415", "wagging its tail"),
        "cat": Loop("1f408", "stretching"),
        "horse": Loop("1f40e", "prancing"),
        "cow": Loop("1f404", "walking"),
        "pig": Loop("1f416", "walking"),
        "rooster": Loop("1f413", "strutting"),
        "sheep": Loop("1f411", "walking"),
        "penguin": Loop("1f427", "waddling"),
        "fish": Loop("1f41f", "swimming"),
        "turtle": Loop("1f422", "hiding in its shell"),
        "airplane": Loop("2708", "swaying"),
        "sailboat": Loop("26f5", "rocking on the waves"),
        "rainbow": Loop("1f308", "changing its colours"),
        "bear": Loop("1f43b", "swaying"),
        "monkey": Loop("1f412", "swinging its tail"),
        "rabbit": Loop("1f407", "sniffing"),
        "bee": Loop("1f41d", "flapping its wings"),
        "ladybug": Loop("1f41e", "wiggling its legs"),
        "snail": Loop("1f40c", "looking around"),
        "octopus": Loop("1f419", "bobbing"),
        "dolphin": Loop("1f42c", "diving"),
        "whale": Loop("1f433", "spouting water"),
        "snake": Loop("1f40d", "slithering"),
        "camel": Loop("1f42a", "walking"),
        "crocodile": Loop("1f40a", "crawling"),
        "bird": Loop("1f426", "flicking its tail"),
        "clock": Loop("23f0", "ringing"),
        "mouse": Loop("1f401", "sniffing"),
        "goat": Loop("1f410", "nodding"),
        "koala": Loop("1f428", "smiling"),
        "snowman": Loop("26c4", "swaying"),
        "umbrella": Loop("2614", "keeping off the rain"),
        "sun": Loop("2600", "shining"),
        "motorcycle": Loop("1f3cd", "rumbling"),
        "tree": Loop("1f384", "twinkling"),
        "cloud": Loop("2601", "drifting"),
    },
    # A poodle, a ram, an ox and a tropical fish, the faces of a pig and a frog, a folded umbrella.
    OWN_HELD_OUT: {
        "elephant": Loop("1f418", "walking"),
        "tiger": Loop("1f405", "walking"),
        "star": Loop("2b50", "spinning"),
        "dog": Loop("1f429", "prancing"),
        "sheep": Loop("1f40f", "walking"),
        "cow": Loop("1f402", "walking"),
        "fish": Loop("1f420", "swimming"),
        "pig": Loop("1f437", "swaying"),
        "frog": Loop("1f438", "swaying"),
        "umbrella": Loop("1f302", "swaying"),
    },
}
"""Motion -> concept -> its loop. What the held-out ones do, other things do in training."""

LoopFrames: TypeAlias = list[Image.Image]
"""NUM_FRAMES frames of one loop, RGBA."""

# Longest side of a cut-out, and how far it travels, as shares of the canvas.
_SIDE = 0.48
_TRAVEL = 0.42
_GROWN, _SHRUNK = 0.86, 0.3
_BOUNCE_HEIGHT = 0.34
_NUM_BOUNCES = 2
# From one side over upright to the other, and always clockwise: a denoiser averages two directions.
_TURN_DEGREES = 180
_LOOP_SIDE = 0.72
_STYLE_NAMED_PROBABILITY = 0.25


@dataclass(frozen=True)
class MotionScene:
    """One thing that moves before a plain background.

    Raises:
        ValueError: an unknown word, or a concept without a loop.
    """

    concept: str
    background: str
    motion: str
    style: str | None = None
    """Drawing style the caption names; None leaves the hand open."""

    def __post_init__(self) -> None:
        """Refuse what no clip shows."""
        known: dict[str, list[str | None]] = {
            "concept": list(CONCEPTS),
            "background": list(COLOURS),
            "motion": [*MOTIONS, *(own for own, loops in LOOPS.items() if self.concept in loops)],
            "style": [None, *STYLES],
        }
        for field, values in known.items():
            if (value := getattr(self, field)) not in values:
                options = ", ".join(str(option) for option in values)
                raise ValueError(f"clip {field} {value!r} is not one of: {options}")


def loop_of(scene: MotionScene) -> Loop:
    """Look up the loop that a scene without programmed motion shows."""
    return LOOPS[scene.motion][scene.concept]


def motion_phrase(scene: MotionScene) -> str:
    """Say what the thing does: ``moving up``, ``wagging its tail``."""
    return MOTIONS[scene.motion] if scene.motion in MOTIONS else loop_of(scene).phrase


def describe_motion(scene: MotionScene) -> str:
    """Write the caption of a clip: lower case, no full stop."""
    style = f", {scene.style} style" if scene.style else ""
    return (
        f"{with_article(scene.concept)} {motion_phrase(scene)} "
        f"on {with_article(scene.background)} background{style}"
    )


def sample_motion(
    rng: random.Random, concept: str, motion: str | None = None, background: str | None = None
) -> MotionScene:
    """Draw a scene of one concept; what is None is drawn, backgrounds from the trained ones."""
    motion = motion or rng.choice(list(MOTIONS))
    background = background or rng.choice(trained_backgrounds(concept))
    named = motion in MOTIONS and rng.random() < _STYLE_NAMED_PROBABILITY
    return MotionScene(concept, background, motion, rng.choice(list(STYLES)) if named else None)


def animate(sprite: Sprite, scene: MotionScene, rng: random.Random) -> np.ndarray:
    """Move a cut-out as the scene's motion says, with small random changes.

    Returns:
        (NUM_FRAMES, CANVAS_PX, CANVAS_PX, 3) uint8.
    """
    background = background_of(scene.background, rng)
    if rng.random() < 0.5:
        sprite = ImageOps.mirror(sprite)
    size, travel = rng.uniform(0.9, 1.1), rng.uniform(0.85, 1.1)
    shift = rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)
    frames = []
    for index in range(NUM_FRAMES):
        time = index / (NUM_FRAMES - 1)
        x, y, side, degrees = _pose(scene.motion, time, travel)
        turned = _turned(sprite, degrees) if scene.motion == "spin" else sprite
        # A turned drawing has a larger frame; what it shows keeps its size.
        longest = side * size * CANVAS_PX * max(turned.size) / max(sprite.size)
        centre = (x + shift[0], y + shift[1])
        frames.append(_placed([turned], background, centre, longest)[0])
    return np.stack(frames)


def _pose(motion: str, time: float, travel: float) -> tuple[float, float, float, float]:
    """Centre x and y, side, and degrees turned clockwise at a time from 0 to 1."""
    path = (time - 0.5) * _TRAVEL * travel
    match motion:
        case "left":
            return 0.5 - path, 0.5, _SIDE, 0.0
        case "right":
            return 0.5 + path, 0.5, _SIDE, 0.0
        case "up":
            return 0.5, 0.5 - path, _SIDE, 0.0
        case "down":
            return 0.5, 0.5 + path, _SIDE, 0.0
        case "grow":
            return 0.5, 0.5, _SHRUNK + (_GROWN - _SHRUNK) * time, 0.0
        case "shrink":
            return 0.5, 0.5, _GROWN + (_SHRUNK - _GROWN) * time, 0.0
        case "spin":
            return 0.5, 0.5, _SIDE * 1.2, _TURN_DEGREES * (time - 0.5)
        case _:
            height = abs(math.sin(math.pi * _NUM_BOUNCES * time)) * _BOUNCE_HEIGHT * travel
            return 0.5, 0.66 - height, _SIDE, 0.0


def _turned(sprite: Sprite, degrees: float) -> Sprite:
    """Turn a cut-out clockwise around its centre of mass, the middle of what is returned."""
    solid = np.asarray(sprite.getchannel("A"), dtype=np.float64)
    rows, columns = np.indices(solid.shape)
    x, y = (round(float((axis * solid).sum() / solid.sum())) for axis in (columns, rows))
    radius = math.ceil(math.hypot(max(x, sprite.width - x), max(y, sprite.height - y)))
    square = Image.new("RGBA", (2 * radius, 2 * radius))
    square.paste(sprite, (radius - x, radius - y))
    return square.rotate(-degrees, Image.Resampling.BICUBIC)


def place_loop(loop: LoopFrames, scene: MotionScene, rng: random.Random) -> np.ndarray:
    """Set a loop before its background; result as for ``animate``."""
    background = background_of(scene.background, rng)
    if rng.random() < 0.5:
        loop = [ImageOps.mirror(frame) for frame in loop]
    start = rng.randrange(NUM_FRAMES)
    loop = loop[start:] + loop[:start]
    centre = (0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.06, 0.06))
    longest = _LOOP_SIDE * rng.uniform(0.9, 1.1) * CANVAS_PX
    return np.stack(_placed(loop, background, centre, longest))


def _placed(
    sprites: Sequence[Image.Image],
    background: tuple[int, int, int],
    centre: tuple[float, float],
    longest: float,
) -> list[np.ndarray]:
    """Draw each sprite onto a canvas of its own, the longer side ``longest`` pixels."""
    frames = []
    for sprite in sprites:
        scale = longest / max(sprite.size)
        width, height = (max(1, round(length * scale)) for length in sprite.size)
        copy = sprite.resize((width, height), Image.Resampling.LANCZOS)
        canvas = Image.new("RGB", (CANVAS_PX, CANVAS_PX), background)
        corner = (
            round(centre[0] * CANVAS_PX - width / 2),
            round(centre[1] * CANVAS_PX - height / 2),
        )
        canvas.paste(copy, corner, copy)
        frames.append(np.asarray(canvas))
    return frames


def read_loops(archives: Sequence[Path]) -> Mapping[str, LoopFrames]:
    """Read all loops from the npm archives of the animated Fluent set.

    Returns:
        Code point -> frames.

    Raises:
        ValueError: a loop is in none of the archives.
    """
    wanted = {loop.code_point: name for of in LOOPS.values() for name, loop in of.items()}
    found: dict[str, LoopFrames] = {}
    for archive in archives:
        with tarfile.open(archive) as tar:
            # NOTE: the archive is compressed as a whole; one pass in its own order is fastest.
            for member in tar:
                stem = Path(member.name).stem.removesuffix("-fe0f")
                file = tar.extractfile(member) if stem in wanted else None
                if file is not None:
                    found[stem] = _sampled(file.read())
    if missing := wanted.keys() - found.keys():
        names = ", ".join(archive.name for archive in archives)
        listed = ", ".join(sorted(f"{wanted[code_point]} ({code_point})" for code_point in missing))
        raise ValueError(f"no loop of {listed} in {names}")
    return found


def _sampled(webp: bytes) -> LoopFrames:
    """Take NUM_FRAMES frames evenly over a loop, cropped alike to what is not transparent."""
    with Image.open(io.BytesIO(webp)) as animation:
        count = getattr(animation, "n_frames", 1)
        frames = []
        for index in range(NUM_FRAMES):
            animation.seek(index * count // NUM_FRAMES)
            frames.append(animation.convert("RGBA"))
    boxes = [
        frame.getchannel("A").point(lambda a: 255 if a > 24 else 0).getbbox() for frame in frames
    ]
    corners = np.array([box for box in boxes if box])
    left, top = corners[:, :2].min(axis=0).tolist()
    right, bottom = corners[:, 2:].max(axis=0).tolist()
    return [frame.crop((left, top, right, bottom)) for frame in frames]
