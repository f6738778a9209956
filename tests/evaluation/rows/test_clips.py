"""Rows about clips: the motion asked for counts, another or a missing one does not."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image
from row_cases import answered

from nextgpt.evaluation.nearest import middle_frame
from nextgpt.evaluation.requests import ExpectedMedium
from nextgpt.evaluation.results import Case
from nextgpt.evaluation.rows import clips
from nextgpt.evaluation.runner import Evaluation
from nextgpt.media import Video
from nextgpt.world.motions import MOTIONS, OWN, MotionScene, animate

SPRITE = Image.fromarray(np.dstack([np.tri(120, 100, dtype=np.uint8) * 200] * 4)[::-1].copy())


def moving(motion: str) -> Video:
    scene = MotionScene("house", "white", motion)
    return Video(animate(SPRITE, scene, random.Random(0)), frames_per_second=4)


def case(motion: str, medium: Video | None, concept: str = "house") -> Case:
    return answered(ExpectedMedium("video", concept, None, motion), medium)


def test_every_motion_that_was_asked_for_and_came_is_right(measured: Evaluation) -> None:
    cases = [case(motion, moving(motion)) for motion in MOTIONS]
    _, motions = clips.generated(measured, cases)
    assert (motions.hits, motions.count) == (8, 8)
    assert "12.5%" in motions.note


def test_another_motion_and_no_clip_are_wrong(measured: Evaluation) -> None:
    concepts, motions = clips.generated(measured, [case("up", moving("down")), case("up", None)])
    assert (motions.hits, motions.count) == (0, 2)
    assert concepts.count == 2


def test_a_motion_that_an_artist_drew_is_not_judged(measured: Evaluation) -> None:
    concepts, motions = clips.generated(measured, [case(OWN, moving("up"), "dog")])
    assert (concepts.count, motions.count) == (1, 0)


def test_the_concept_is_told_by_the_middle_frame(measured: Evaluation) -> None:
    clip = moving("spin")
    seen = measured.material.judge.concepts_in([middle_frame(clip)])[0]
    others = [name for name in ("cat", "dog") if name != seen]
    cases = [case("spin", clip, name) for name in (seen, others[0])]
    concepts, _ = clips.generated(measured, cases)
    assert (concepts.hits, concepts.count) == (1, 2)
    assert "similarity" in concepts.note


def test_a_case_says_which_motion_came(measured: Evaluation) -> None:
    _, motions = clips.generated(measured, [case("left", moving("right")), case("left", None)])
    assert [sample.wanted for sample in motions.samples] == ["left", "left"]
    assert [sample.seen for sample in motions.samples] == ["right", "no one motion"]
    assert [sample.share for sample in motions.samples] == [None, None], "the judge knows concepts"


def test_captions_of_a_random_chain_name_no_motion(measured: Evaluation) -> None:
    for row in (clips.captions(measured), clips.loop_captions(measured)):
        assert (row.hits, row.count) == (0, measured.limit)
