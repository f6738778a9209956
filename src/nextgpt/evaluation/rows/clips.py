"""Rows about clips: those generated, and what is said about held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nextgpt.evaluation.metrics import loop_verb, loop_verb_named, motion_named
from nextgpt.evaluation.motion import motion_in
from nextgpt.evaluation.nearest import middle_frame
from nextgpt.evaluation.results import Row, Sample, judged_case, nearness
from nextgpt.media import Video
from nextgpt.modality import Modality
from nextgpt.world.dialogue_media import motion_scene_of
from nextgpt.world.motions import MOTIONS, NUM_FRAMES, motion_phrase

if TYPE_CHECKING:
    from nextgpt.data.manifest import Item
    from nextgpt.evaluation.results import Case
    from nextgpt.evaluation.runner import Evaluation

NUM_WISHES = 80
"""Wishes for one clip, beside the requests."""
NUM_CAPTIONS = 160
NO_MOTION = "no one motion"


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """All rows about clips that the model makes or watches."""
    if Modality.VIDEO in evaluation.made:
        cases = evaluation.asked(Modality.VIDEO, "animate", NUM_WISHES)
        yield from generated(evaluation, cases)
    if Modality.VIDEO in evaluation.read:
        yield captions(evaluation)
        yield loop_captions(evaluation)


def generated(evaluation: Evaluation, cases: Sequence[Case]) -> Iterator[Row]:
    """Whether generated clips show the requested concept, and its motion."""
    concepts, motions = [], []
    neighbours = evaluation.neighbours(Modality.VIDEO, cases)
    for case, nearest in zip(cases, neighbours, strict=True):
        wanted, shares, motion = case.expected, None, None
        if isinstance(case.medium, Video):
            [shares] = evaluation.material.judge.shares_in([middle_frame(case.medium)])
            motion = motion_in(case.medium.frames(NUM_FRAMES))
        found = judged_case(case, shares, nearest)
        concepts.append(found)
        # What an artist animated has no programmed motion to be held against.
        if wanted.motion in MOTIONS:
            motions.append(
                replace(
                    found,
                    wanted=wanted.motion,
                    seen=motion or NO_MOTION,
                    is_right=motion == wanted.motion,
                    share=None,
                )
            )
    yield Row.proportion(
        "generated clip shows the requested concept",
        concepts,
        0.85,
        note="says the judge, of its middle frame; a missing clip counts as wrong; "
        f"{nearness(neighbours)}",
    )
    yield Row.proportion(
        "generated clip shows the requested motion",
        motions,
        0.90,
        note=f"of {len(MOTIONS)}: chance is {1 / len(MOTIONS):.1%}",
    )


def captions(evaluation: Evaluation) -> Row:
    """Whether the answer names the motion of a held-out clip, and no other."""
    items = evaluation.items_of(Modality.VIDEO, "held_out_drawing", "held_out_pair")
    moving = [item for item in items if item.attributes["motion"] in MOTIONS]
    chosen = evaluation.some(moving, NUM_CAPTIONS)
    sections = ("watch_motion", "watch_all")
    samples = evaluation.answered("clip_captions", chosen, sections, _motion_read)
    return Row.proportion("caption of a held-out clip names the motion", samples, 0.85)


def loop_captions(evaluation: Evaluation) -> Row:
    """Whether the answer says what an artist made a thing do, in a loop never seen in training."""
    items = evaluation.items_of(Modality.VIDEO, "held_out_loop")
    chosen = evaluation.some(items, NUM_CAPTIONS)
    sections = ("watch_motion", "watch_all")
    samples = evaluation.answered("loop_captions", chosen, sections, _verb_read)
    num_loops = len({item.concept for item in chosen})
    return Row.proportion(
        "caption of a held-out animation names what happens",
        samples,
        0.85,
        note=f"{num_loops} whole loops by their artist",
    )


def _verb_read(text: str, item: Item) -> Sample:
    wanted, named = loop_verb(motion_phrase(motion_scene_of(item))), loop_verb_named(text)
    return Sample(wanted, named or NO_MOTION, named == wanted)


def _motion_read(text: str, item: Item) -> Sample:
    wanted, named = str(item.attributes["motion"]), motion_named(text)
    return Sample(wanted, named or NO_MOTION, named == wanted)
