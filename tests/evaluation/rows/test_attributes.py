"""Rows about attributes: each is read off the picture, and an edit must also keep the concept."""

from __future__ import annotations

import random
from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
import pytest
from row_cases import answered

from nextgpt.evaluation.layout import things_in
from nextgpt.evaluation.requests import ExpectedMedium, references
from nextgpt.evaluation.results import Case, Sample
from nextgpt.evaluation.rows import attributes
from nextgpt.evaluation.rows.pictures import judged_picture
from nextgpt.evaluation.runner import Evaluation
from nextgpt.media import Image
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.pictures import compose
from nextgpt.world.scenes import Scene, is_held_out_pair


def drawn(scene: Scene) -> Image:
    sprite = PIL.Image.new("RGBA", (120, 120))
    PIL.ImageDraw.Draw(sprite).ellipse([0, 0, 119, 119], (90, 60, 120, 255))
    return Image(compose(sprite, scene, random.Random(1)).resize((64, 64)))


@pytest.mark.parametrize(
    "scene",
    [
        Scene("dog", "white"),
        Scene("dog", "yellow", "large"),
        Scene("dog", "black", "small", "left"),
        Scene("dog", "pink", "small", "bottom"),
        Scene("dog", "green", count=2),
        Scene("dog", "blue", count=3),
    ],
)
def test_every_attribute_of_a_picture_of_the_world_is_read_off_it(scene: Scene) -> None:
    found = attributes.attributes_of(drawn(scene))
    # Several things have neither one place nor one size.
    told = ("background", "count", *(("place", "size") if scene.count == 1 else ()))
    assert {name: found[name] for name in told} == {name: getattr(scene, name) for name in told}


def test_requests_fit_their_rows_and_no_row_has_more_than_the_limit(measured: Evaluation) -> None:
    rows = [attributes.held_out_pairs(measured), attributes.counts(measured)]
    rows += [attributes.places(measured), attributes.referred(measured)]
    rows += [attributes.edits(measured), attributes.couples(measured)]
    assert [row.count for row in rows] == [measured.limit] * 6
    assert all(" and " in sample.wanted for sample in rows[5].samples)
    assert {sample.wanted for sample in rows[1].samples} <= {"2", "3"}
    assert {sample.wanted for sample in rows[2].samples} <= {"left", "right", "top", "bottom"}


def test_a_picture_of_two_things_is_right_when_both_are_seen(measured: Evaluation) -> None:
    picture = drawn(Scene("dog", "white", count=2))
    [left, right] = measured.material.judge.concepts_in(things_in(picture.pil))
    unseen = next(concept for concept in CONCEPTS if concept not in (left, right))
    verdicts = [
        judged_picture(measured, answered(ExpectedMedium("image", first, second=second), medium))
        for first, second, medium in (
            (left, right, picture),
            (right, left, picture),
            (left, unseen, picture),
            (left, right, None),
        )
    ]
    assert [sample.is_right for sample in verdicts] == [True, True, False, False]


def test_pairs_are_those_kept_from_training(measured: Evaluation) -> None:
    requests = measured.further(
        ("draw",), 20, "pairs", lambda r: attributes._is_held_out(r.expected[0])
    )
    pairs = [(r.expected[0].concept, r.expected[0].background or "") for r in requests]
    assert pairs and all(is_held_out_pair(*pair) for pair in pairs)
    requests = measured.further(("draw",), 20, "couples", lambda r: bool(r.expected[0].second))
    couples = [(r.expected[0].concept, str(r.expected[0].second)) for r in requests]
    assert couples and all(is_held_out_pair(*couple) for couple in couples)


def edits_of(measured: Evaluation, asked: str, media: Sequence[Image | None]) -> list[bool]:
    """Verdicts of the row of edits when these pictures come for changes of one attribute."""
    requests = references(measured.sampler, 200, edits_alone=True)
    [request] = [r for r in requests if r.changed[0] == asked][:1]
    cases = [answered(request.expected[0], medium) for medium in media]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, "references", lambda *_, **__: [request] * len(cases))
        patch.setattr(measured, "cases", lambda *_: cases)
        return [sample.is_right for sample in attributes.edits(measured).samples]


def test_an_edit_is_right_when_attribute_and_concept_are(measured: Evaluation) -> None:
    requests = references(measured.sampler, 200, edits_alone=True)
    [request] = [r for r in requests if r.changed[0] == "background"][:1]
    wanted = request.expected[0]
    other = "red" if wanted.background != "red" else "blue"
    right, wrong = (drawn(Scene("dog", str(colour))) for colour in (wanted.background, other))
    for concept_is_right in (True, False):
        with pytest.MonkeyPatch.context() as patch:

            def judged(_: object, case: Case, verdict: bool = concept_is_right) -> Sample:
                return Sample(case.expected.concept, "?", verdict, case.asked, case.reply)

            patch.setattr(attributes, "judged_picture", judged)
            verdicts = edits_of(measured, "background", [right, wrong, None])
        assert verdicts == [concept_is_right, False, False]


def test_a_second_medium_beside_the_picture_is_wrong(measured: Evaluation) -> None:
    picture = drawn(Scene("dog", "white"))
    seen = measured.material.judge.concepts_in([picture.pil])[0]
    alone = answered(ExpectedMedium("image", seen), picture)
    beside = answered(ExpectedMedium("image", seen), picture)
    beside.reply.parts.append(picture)
    [request] = references(measured.sampler, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, "references", lambda *_: [request, request])
        patch.setattr(measured, "cases", lambda *_: [alone, beside])
        found = attributes.referred(measured)
    assert [sample.is_right for sample in found.samples] == [True, False]
