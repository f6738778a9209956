"""Rows about clips: those generated, and what is said about held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nextgpt.evaluation.metrics import Row, motion_named
from nextgpt.evaluation.motion import motion_in
from nextgpt.evaluation.nearest import middle_frame
from nextgpt.evaluation.report import Sample, film_strip
from nextgpt.media import Video
from nextgpt.modality import Modality
from nextgpt.world.motions import MOTIONS, NUM_FRAMES

if TYPE_CHECKING:
    from nextgpt.evaluation.runner import Case, Evaluation

NUM_WISHES = 120
"""Wishes for one clip, beside the requests."""
NUM_CAPTIONS = 160


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """All rows about clips that the model makes or watches."""
    if Modality.VIDEO in evaluation.made:
        cases = evaluation.asked(Modality.VIDEO, "animate", NUM_WISHES)
        yield from generated(evaluation, cases)
    if Modality.VIDEO in evaluation.read:
        yield captions(evaluation)


def generated(evaluation: Evaluation, cases: Sequence[Case]) -> Iterator[Row]:
    """Whether generated clips show the requested concept, and its motion."""
    concepts, motions = [], []
    for case in cases:
        expected, seen, motion = case.expected, None, None
        if isinstance(case.medium, Video):
            frames = case.medium.frames(NUM_FRAMES)
            seen = evaluation.judge.concepts_in([middle_frame(case.medium)])[0]
            motion = motion_in(frames)
            right = seen == expected.concept and motion == expected.motion
            asked = f"{expected.concept}, {expected.motion}"
            sample = Sample(film_strip(frames), asked, f"{seen}, {motion}", case.text, right)
            evaluation.samples["clips"].append(sample)
        concepts.append(seen == expected.concept)
        # What an artist animated has no programmed motion to be held against.
        if expected.motion in MOTIONS:
            motions.append(motion == expected.motion)
    yield Row.proportion(
        "generated clip shows the requested concept",
        concepts,
        0.60,
        note="says the judge, of its middle frame; a missing clip counts as wrong; "
        f"{evaluation.nearness(Modality.VIDEO, cases)}",
    )
    yield Row.proportion(
        "generated clip shows the requested motion",
        motions,
        0.70,
        note=f"of {len(MOTIONS)}: chance is {1 / len(MOTIONS):.1%}",
    )


def captions(evaluation: Evaluation) -> Row:
    """Whether the answer names the motion of a held-out clip, and no other."""
    items = evaluation.items_of(Modality.VIDEO, "held_out_drawing", "held_out_pair")
    moving = [item for item in items if item.attributes["motion"] in MOTIONS]
    chosen = evaluation.some(moving, NUM_CAPTIONS)
    texts = evaluation.answered("clip_captions", chosen, ("watch_motion", "watch_all"))
    verdicts = [motion_named(texts[item.id]) == item.attributes["motion"] for item in chosen]
    return Row.proportion("caption of a held-out clip names the motion", verdicts, 0.75)
