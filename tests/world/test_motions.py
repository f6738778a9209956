"""Clips: each programmed motion does what its caption says, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tiny_media import write_loops

from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.motions import (
    LOOPS,
    MOTIONS,
    NUM_FRAMES,
    OWN,
    OWN_HELD_OUT,
    MotionScene,
    animate,
    describe_motion,
    motion_phrase,
    place_loop,
    read_loops,
    sample_motion,
)
from nextgpt.world.pictures import CANVAS_PX
from nextgpt.world.scenes import is_held_out_pair


def arrow() -> Image.Image:
    """A cut-out that looks different when turned or mirrored."""
    sprite = Image.new("RGBA", (100, 80))
    ImageDraw.Draw(sprite).polygon([(0, 0), (99, 20), (60, 79), (30, 40)], fill="red")
    return sprite


def measured(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Horizontal and vertical centre, as shares of the canvas, and area in pixels, by frame."""
    shown = (np.abs(frames.astype(int) - frames[:, :1, :1].astype(int)).sum(-1) > 60).astype(float)
    area = shown.sum((1, 2))
    rows, columns = np.indices(shown.shape[1:])
    x, y = ((shown * axis).sum((1, 2)) / area / CANVAS_PX for axis in (columns, rows))
    return x, y, area


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("motion", list(MOTIONS))
def test_a_cut_out_moves_as_its_caption_says(motion: str, seed: int) -> None:
    scene = MotionScene("rocket", "white", motion)
    frames = animate(arrow(), scene, random.Random(seed))
    assert frames.shape == (NUM_FRAMES, CANVAS_PX, CANVAS_PX, 3) and frames.dtype == np.uint8
    x, y, area = measured(frames)
    across, down = x[-1] - x[0], y[-1] - y[0]
    growth = area[-1] / area[0]
    match motion:
        case "left" | "right":
            assert abs(down) < 0.02 and 0.95 < growth < 1.05
            assert (across > 0.25) if motion == "right" else (across < -0.25)
        case "up" | "down":
            assert abs(across) < 0.02 and 0.95 < growth < 1.05
            assert (down > 0.25) if motion == "down" else (down < -0.25)
        case "grow":
            assert growth > 3
        case "shrink":
            assert growth < 1 / 3
        case "spin":
            assert max(abs(across), abs(down)) < 0.06 and area.max() / area.min() < 1.2
            halfway = np.abs(frames[0].astype(int) - frames[NUM_FRAMES // 2].astype(int)).mean()
            assert halfway > 5
        case _:
            assert abs(down) < 0.05 and np.ptp(y) > 0.15 and abs(across) < 0.02
            assert (np.diff(np.sign(np.diff(y))) != 0).sum() >= 2


def test_what_spins_turns_clockwise_from_one_side_over_upright_to_the_other() -> None:
    pole = Image.new("RGBA", (20, 100), "red")
    ImageDraw.Draw(pole).rectangle([0, 0, 19, 49], "blue")  # its upper half
    frames = animate(pole, MotionScene("rocket", "white", "spin"), random.Random(0))
    is_red, is_blue = ((frames[..., channel] > 200) & (frames[..., 1] < 60) for channel in (0, 2))
    # From the red half's middle to the blue one's; rows grow downwards.
    down, across = (
        np.array(
            [
                np.nonzero(blue)[axis].mean() - np.nonzero(red)[axis].mean()
                for blue, red in zip(is_blue, is_red, strict=True)
            ]
        )
        for axis in (0, 1)
    )
    assert across[0] < 0 < across[-1] and (np.diff(across) > 0).all()
    assert np.abs(down[[0, -1]]).max() < 0.1 * np.abs(across[0])
    assert (down[1:-1] < 0).all() and down.argmin() in (3, 4)


def test_the_same_seed_gives_the_same_clip() -> None:
    scene = MotionScene("dog", "blue", "spin")
    first, again, other = (animate(arrow(), scene, random.Random(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_captions_say_motion_background_and_style() -> None:
    scene = MotionScene("rocket", "black", "up", "flat")
    assert describe_motion(scene) == "a rocket moving up on a black background, flat style"
    assert describe_motion(MotionScene("dog", "orange", OWN)) == (
        "a dog wagging its tail on an orange background"
    )


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        (("dog", "blue", "sideways"), "sideways"),
        (("key", "blue", OWN), "own"),
        (("dog", "beige", "up"), "beige"),
    ],
)
def test_what_no_clip_shows_is_refused(fields: tuple[str, str, str], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        MotionScene(*fields)


def test_no_clip_is_drawn_on_a_background_kept_from_training() -> None:
    rng = random.Random(0)
    scenes = [sample_motion(rng, concept) for concept in CONCEPTS for _ in range(30)]
    assert not any(is_held_out_pair(scene.concept, scene.background) for scene in scenes)
    assert {scene.motion for scene in scenes} == set(MOTIONS)


def test_held_out_loops_do_what_others_do_in_training() -> None:
    trained = {loop.phrase for loop in LOOPS[OWN].values()} | set(MOTIONS.values())
    held_out = LOOPS[OWN_HELD_OUT].values()
    assert len(held_out) == 10 and {loop.phrase for loop in held_out} <= trained
    assert len({loop.code_point for loops in LOOPS.values() for loop in loops.values()}) == 46


def test_a_thing_may_do_one_thing_in_training_and_another_in_a_held_out_loop() -> None:
    assert motion_phrase(MotionScene("dog", "red", OWN)) == "wagging its tail"
    assert motion_phrase(MotionScene("dog", "red", OWN_HELD_OUT)) == "prancing"


def test_loops_are_read_from_several_archives_and_set_before_a_background(tmp_path: Path) -> None:
    code_points = [loop.code_point for loops in LOOPS.values() for loop in loops.values()]
    archives = [
        write_loops(tmp_path / "1.tgz", code_points[:10]),
        write_loops(tmp_path / "4.tgz", code_points[10:]),
    ]
    loops = read_loops(archives)
    assert set(loops) == set(code_points)
    assert {len(frames) for frames in loops.values()} == {NUM_FRAMES}
    dog = loops[LOOPS[OWN]["dog"].code_point]
    assert dog[0].size == dog[-1].size  # cropped alike, so that it still moves
    frames = place_loop(dog, MotionScene("dog", "white", OWN), random.Random(0))
    assert frames.shape == (NUM_FRAMES, CANVAS_PX, CANVAS_PX, 3)
    assert np.ptp(measured(frames)[0]) > 0.02
    with pytest.raises(ValueError, match=r"no loop of airplane \(2708\)"):
        read_loops(archives[:1])
