"""The programmed motions are told apart; what stands still, changes or is noise has none."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from nextgpt.evaluation.motion import motion_in
from nextgpt.world.motions import MOTIONS, MotionScene, animate
from nextgpt.world.pictures import Sprite

SEEDS = range(4)


def house(colour: str = "#7b1fa2") -> Sprite:
    """A cut-out that looks the same from no two sides."""
    sprite = Image.new("RGBA", (180, 220))
    draw = ImageDraw.Draw(sprite)
    draw.polygon([(0, 90), (90, 0), (180, 90)], "#f57c00")
    draw.rectangle([20, 90, 160, 219], colour)
    draw.rectangle([100, 130, 150, 219], "#212121")
    return sprite


def clip(motion: str, seed: int, background: str = "white") -> np.ndarray:
    scene = MotionScene("house", background, motion)
    frames = animate(house(), scene, random.Random(f"{motion}/{seed}"))
    return np.stack([as_small(frame) for frame in frames])


def as_small(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BOX))


def blurred(frames: np.ndarray, seed: int) -> np.ndarray:
    """What a small generator makes of a clip: soft, noisy, its colours not quite steady."""
    rng = np.random.default_rng(seed)
    changed = []
    for frame in frames:
        soft = Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.0))
        shift, noise = rng.normal(0, 5, 3), rng.normal(0, 6, frame.shape)
        changed.append((np.asarray(soft) + shift + noise).clip(0, 255).astype(np.uint8))
    return np.stack(changed)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_programmed_motion_is_named(motion: str) -> None:
    for seed in SEEDS:
        assert motion_in(clip(motion, seed)) == motion


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_motion_is_named_in_a_soft_and_noisy_clip(motion: str) -> None:
    for seed in SEEDS:
        assert motion_in(blurred(clip(motion, seed, "green"), seed)) == motion


def test_what_stands_still_has_no_motion() -> None:
    for seed in SEEDS:
        still = np.stack([clip("up", seed)[0]] * 8)
        assert motion_in(still) is None
        assert motion_in(blurred(still, seed)) is None


def test_noise_has_no_motion() -> None:
    for seed in SEEDS:
        frames = np.random.default_rng(seed).integers(0, 256, (8, 64, 64, 3), np.uint8)
        assert motion_in(frames) is None


def test_an_empty_clip_has_no_motion() -> None:
    assert motion_in(np.full((8, 64, 64, 3), 200, np.uint8)) is None


def test_a_thing_that_is_gone_for_a_while_has_no_motion() -> None:
    frames = clip("left", 0).copy()
    frames[3] = frames[3, 0, 0]
    assert motion_in(frames) is None


@pytest.mark.parametrize("change", [2, 3, 4, 5, 6])
def test_two_pictures_one_after_the_other_have_no_motion(change: int) -> None:
    first = clip("spin", 0)[0]
    second = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(second).ellipse([14, 20, 52, 46], "#2e7d32")
    frames = np.stack([first] * change + [np.asarray(second)] * (8 - change))
    assert motion_in(frames) is None


def test_a_motion_played_backwards_is_the_opposite_one() -> None:
    for motion, opposite in (("left", "right"), ("up", "down"), ("grow", "shrink")):
        assert motion_in(clip(motion, 0)[::-1]) == opposite


def test_the_size_of_the_frames_does_not_matter() -> None:
    frames = animate(house(), MotionScene("house", "pink", "grow"), random.Random(0))
    assert frames.shape[1] == 128
    assert motion_in(frames) == "grow"
