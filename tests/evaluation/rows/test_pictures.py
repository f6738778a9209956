"""Rows about pictures: right ones count, missing ones are wrong."""

from __future__ import annotations

import PIL.Image
import PIL.ImageDraw
from row_cases import answered

from nextgpt.evaluation.photographs import PHOTOGRAPHS
from nextgpt.evaluation.requests import ExpectedMedium
from nextgpt.evaluation.results import Case
from nextgpt.evaluation.rows import pictures
from nextgpt.evaluation.runner import Evaluation
from nextgpt.media import Image
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.scenes import COLOURS


def drawn(background: str) -> Image:
    picture = PIL.Image.new("RGB", (64, 64), COLOURS[background])
    PIL.ImageDraw.Draw(picture).ellipse([18, 14, 44, 52], (120, 70, 20))
    return Image(picture)


def case(concept: str, background: str | None, medium: Image | None) -> Case:
    return answered(ExpectedMedium("image", concept, background), medium)


def test_the_background_counts_where_the_user_named_it(measured: Evaluation) -> None:
    cases = [
        case("cat", "red", drawn("red")),
        case("cat", "blue", drawn("red")),
        case("cat", None, drawn("red")),
    ]
    concepts, backgrounds = pictures.generated(measured, cases)
    assert (backgrounds.hits, backgrounds.count) == (1, 2)
    assert concepts.count == 3


def test_a_picture_is_right_when_the_judge_sees_the_concept(measured: Evaluation) -> None:
    picture = drawn("green")
    seen = measured.material.judge.concepts_in([picture.pil])[0]
    other = "cat" if seen != "cat" else "dog"
    cases = [case(name, None, picture) for name in (seen, other)]
    concepts, _ = pictures.generated(measured, cases)
    assert (concepts.hits, concepts.count) == (1, 2)
    assert [sample.is_right for sample in concepts.samples] == [True, False]
    assert [sample.seen for sample in concepts.samples] == [seen, seen]
    assert (concepts.samples[0].share or 0) > (concepts.samples[1].share or 0)
    assert all(sample.nearest for sample in concepts.samples)


def test_a_missing_picture_is_wrong(measured: Evaluation) -> None:
    concepts, backgrounds = pictures.generated(measured, [case("cat", "red", None)])
    assert (concepts.hits, concepts.count) == (0, 1)
    assert (backgrounds.hits, backgrounds.count) == (0, 1)


def test_no_row_has_more_cases_than_the_limit(measured: Evaluation) -> None:
    judge = pictures.judged_drawings(measured)
    assert judge.count == measured.limit and "by one whom nobody knows" in judge.note
    assert pictures.captions(measured).count == measured.limit
    assert pictures.artist_captions(measured).count == measured.limit
    assert pictures.signals_against_text(measured).count == measured.limit


def test_captions_of_a_random_chain_name_nothing(measured: Evaluation) -> None:
    assert pictures.captions(measured).hits == pictures.artist_captions(measured).hits == 0


def test_every_photograph_is_asked_about(measured: Evaluation) -> None:
    row = pictures.photograph_captions(measured)
    assert (row.hits, row.count) == (0, 2)
    assert {sample.wanted for sample in row.samples} == {"dog", "cat"}
    assert all(sample.asked.messages[-1].media for sample in row.samples if sample.asked)


def test_photographs_are_of_things_in_the_world_each_once() -> None:
    shown = [(name, concept) for of in PHOTOGRAPHS.values() for name, concept in of.items()]
    assert len({name for name, _ in shown}) == len(shown) >= 100
    assert {concept for _, concept in shown} <= set(CONCEPTS)
