"""The test requests: by hand and from phrasings kept from training."""

from __future__ import annotations

import json
import logging
from collections import Counter
from importlib import resources
from typing import Any, get_args

import pytest

from nextgpt.data.manifest import Item
from nextgpt.evaluation.requests import SAMPLED_KINDS, ExpectedMedium, held_out_requests
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogues import Kind
from nextgpt.world.phrase_bank import load_bank
from nextgpt.world.scenes import COLOURS, Scene, describe


def records() -> list[dict[str, Any]]:
    text = (resources.files("nextgpt.evaluation") / "requests.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def items_of(scenes: list[Scene]) -> list[Item]:
    return [
        Item(
            str(number),
            "image",
            f"{number}.png",
            describe(scene),
            scene.concept,
            {
                "background": scene.background,
                "size": scene.size,
                "place": scene.place,
                "count": scene.count,
                "style": None,
            },
            "",
            "",
            "validation",
        )
        for number, scene in enumerate(scenes)
    ]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Every concept on every background, and every scene the requests by hand show."""
    scenes = [Scene(c, b) for c in CONCEPTS for b in COLOURS]
    for record in records():
        for turn in record["turns"]:
            scenes += [Scene(**part["scene"]) for part in turn["parts"] if isinstance(part, dict)]
    return items_of(scenes)


def test_sixty_requests_are_written_by_hand_and_twenty_of_them_are_plain_questions() -> None:
    by_hand = records()
    assert len(by_hand) == len({record["id"] for record in by_hand}) == 60
    counts = Counter(record["kind"] for record in by_hand)
    assert counts.keys() == set(get_args(Kind))
    assert counts["chat"] == 20
    for record in by_hand:
        assert record["turns"][-1]["role"] == "user"
        assert record["reference"]
        assert (record["kind"] in ("draw", "transform", "pair")) <= bool(record["expected"])
        for medium in record["expected"]:
            assert medium["concept"] in CONCEPTS
            assert medium["background"] in (None, *COLOURS)


def test_no_request_by_hand_repeats_a_training_phrase() -> None:
    bank = load_bank("train")
    trained = {question.rstrip("?.!").lower() for question, _ in (*bank.chat, *bank.after_picture)}
    for record in records():
        for part in record["turns"][-1]["parts"]:
            assert isinstance(part, dict) or part.rstrip("?.!").lower() not in trained


def test_two_hundred_requests_hold_all_by_hand_and_every_kind(items: list[Item]) -> None:
    requests = held_out_requests(items, num=200, seed=3)
    assert len(requests) == len({request.id for request in requests}) == 200
    assert [request.id for request in requests[:60]] == [record["id"] for record in records()]
    counts = Counter(request.kind for request in requests)
    assert min(counts.values()) >= SAMPLED_KINDS.count("outside") * 7
    assert 80 <= sum(not request.expected for request in requests) <= 120
    assert all(request.turns[-1].role == "user" for request in requests)
    assert requests == held_out_requests(items, num=200, seed=3)


def test_an_expected_background_is_open_only_where_the_user_left_it_open(
    items: list[Item],
) -> None:
    for request in held_out_requests(items, num=200):
        said = [part for turn in request.turns if turn.role == "user" for part in turn.parts]
        shown = [p.scene.background for turn in request.turns for p in turn.pictures]
        words = " ".join(part for part in said if isinstance(part, str)).lower()
        for medium in request.expected:
            assert isinstance(medium, ExpectedMedium)
            if medium.background is None:
                assert not any(colour in words.split() for colour in COLOURS), request.id
            else:
                # A typing error may hide the word.
                letters = sorted(words)
                named = all(letters.count(x) for x in medium.background)
                assert named or medium.background in shown, request.id


def test_a_request_whose_picture_is_missing_is_replaced_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = items_of([Scene("dog", "red"), Scene("cat", "blue")])
    with caplog.at_level(logging.WARNING):
        requests = held_out_requests(items, num=200)
    assert len(requests) == 200
    assert "left out request look-01" in caplog.text
    assert "draw-01" in {request.id for request in requests}
