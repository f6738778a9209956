"""Rows about pictures: what they show besides a concept, and what stays when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nextgpt.evaluation.layout import Layout, layout_of
from nextgpt.evaluation.metrics import background_of
from nextgpt.evaluation.requests import ExpectedMedium, references
from nextgpt.evaluation.results import NOTHING, Row, Sample
from nextgpt.evaluation.rows.pictures import judged_picture
from nextgpt.media import Image
from nextgpt.modality import Modality
from nextgpt.world.scenes import Size, is_held_out_pair

if TYPE_CHECKING:
    from nextgpt.evaluation.results import Case
    from nextgpt.evaluation.runner import Evaluation

NUM_CASES = 100
FIRST_EDIT = 10_000
"""Dialogues from here on are edits alone; earlier ones are references of all kinds."""
SMALL, LARGE = 0.55, 0.82
"""Longer side from which a thing is medium, and large, as a share of the picture's. The world's are
0.45 at most, 0.69 to 0.77, and 0.86 at least (one in twenty apart)."""


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """All rows about attributes of pictures and about references to earlier media."""
    if Modality.IMAGE not in evaluation.made:
        return
    yield held_out_pairs(evaluation)
    yield couples(evaluation)
    yield counts(evaluation)
    yield places(evaluation)
    yield referred(evaluation)
    yield edits(evaluation)


def held_out_pairs(evaluation: Evaluation) -> Row:
    """Whether a concept is shown that training never saw on the background asked for."""
    return Row.proportion(
        "generated picture shows the concept, on a background it was never seen on",
        [judged_picture(evaluation, case) for case in _wished(evaluation, "pairs", _is_held_out)],
        0.85,
    )


def _is_held_out(wish: ExpectedMedium) -> bool:
    return wish.background is not None and is_held_out_pair(wish.concept, wish.background)


def couples(evaluation: Evaluation) -> Row:
    """Whether both things are shown where training never put the second beside the first."""
    cases = _wished(evaluation, "couples", lambda wish: wish.second is not None)
    return Row.proportion(
        "generated picture shows both things, a pair never seen in this order",
        [judged_picture(evaluation, case) for case in cases],
        0.70,
    )


def counts(evaluation: Evaluation) -> Row:
    """Whether as many things are shown as asked for, where several are."""
    cases = _wished(evaluation, "counts", lambda wish: (wish.count or 1) > 1)
    samples = [_attribute_case(case, "count") for case in cases]
    return Row.proportion("generated picture shows two or three as requested", samples, 0.80)


def places(evaluation: Evaluation) -> Row:
    """Whether the thing is where it was asked to be."""
    cases = _wished(evaluation, "places", lambda wish: wish.place not in (None, "centre"))
    samples = [_attribute_case(case, "place") for case in cases]
    return Row.proportion("generated thing is at the requested place", samples, 0.85)


def _wished(
    evaluation: Evaluation, name: str, fits: Callable[[ExpectedMedium], bool]
) -> Sequence[Case]:
    requests = evaluation.further(("draw",), NUM_CASES, name, lambda r: fits(r.expected[0]))
    return evaluation.cases(name, requests, Modality.IMAGE)


def referred(evaluation: Evaluation) -> Row:
    """Whether a picture follows from an earlier medium, and comes alone."""
    requests = references(evaluation.sampler, evaluation.at_most(NUM_CASES))
    samples = []
    for case in evaluation.cases("references", requests, Modality.IMAGE):
        found = judged_picture(evaluation, case)
        alone = len(case.reply.media) == 1
        samples.append(replace(found, is_right=found.is_right and alone))
    return Row.proportion("picture follows from an earlier turn", samples, 0.80)


def edits(evaluation: Evaluation) -> Row:
    """Whether a picture differs from the one before as asked, and in its concept not at all."""
    number = evaluation.at_most(NUM_CASES)
    requests = references(evaluation.sampler, number, FIRST_EDIT, edits_alone=True)
    samples = []
    cases = evaluation.cases("edits", requests, Modality.IMAGE)
    for request, case in zip(requests, cases, strict=True):
        # What was asked for comes first: a place makes the thing small as well.
        edit = _attribute_case(case, request.changed[0])
        keeps = judged_picture(evaluation, case).is_right
        samples.append(replace(edit, is_right=edit.is_right and keeps))
    return Row.proportion("edit changes what was asked and keeps the concept", samples, 0.85)


def _attribute_case(case: Case, name: str) -> Sample:
    wanted, seen = str(getattr(case.expected, name)), NOTHING
    if isinstance(case.medium, Image):
        seen = str(attributes_of(case.medium)[name])
    return Sample(wanted, seen, seen == wanted, case.asked, case.reply)


def attributes_of(picture: Image) -> dict[str, str | int]:
    """Read off a picture what can be told without knowing what it shows."""
    layout = layout_of(picture.pil)
    return {
        "background": background_of(picture.pil),
        "count": layout.count,
        "place": layout.place,
        "size": _size(layout),
    }


def _size(layout: Layout) -> Size:
    if layout.side < SMALL:
        return "small"
    return "large" if layout.side >= LARGE else "medium"
