"""The test requests: by hand and from phrasings kept from training."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from importlib import resources
from typing import Any, get_args

import pytest
from dialogue_items import (
    clip_item,
    clip_items,
    picture_item,
    picture_items,
    sound_item,
    sound_items,
)

from nextgpt.data.manifest import Item
from nextgpt.evaluation.requests import (
    SAMPLED_KINDS,
    ExpectedMedium,
    further_requests,
    held_out_requests,
    outside_requests,
    references,
    sampled_request,
)
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogues import DialogueSampler, Kind
from nextgpt.world.motions import MOTIONS, MotionScene
from nextgpt.world.phrase_bank import load_bank
from nextgpt.world.scenes import COLOURS, Scene
from nextgpt.world.sounds import PITCHED, SOUNDS, SoundScene

KINDS = set(get_args(Kind)) - {"couple"}
"""Kinds of the requests: those for couples are among the wishes for pictures."""


def records() -> list[dict[str, Any]]:
    text = (resources.files("nextgpt.evaluation") / "requests.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Everything that dialogues and the requests by hand may show."""
    scenes = [
        Scene(**part["scene"])
        for record in records()
        for turn in record["turns"]
        for part in turn["parts"]
        if isinstance(part, dict) and "scene" in part
    ]
    shown = [picture_item(f"shown-{n}", scene, "validation") for n, scene in enumerate(scenes)]
    return [*picture_items(), *sound_items(), *clip_items(), *shown]


def test_ninety_requests_are_written_by_hand_and_twenty_of_them_are_plain_questions() -> None:
    by_hand = records()
    assert len(by_hand) == len({record["id"] for record in by_hand}) == 90
    counts = Counter(record["kind"] for record in by_hand)
    assert counts.keys() == KINDS
    assert counts["chat"] == 20
    wishes = ("draw", "sound", "animate", "several", "pair", "cross", "transform")
    for record in by_hand:
        assert record["turns"][-1]["role"] == "user"
        assert record["reference"]
        assert (record["kind"] in wishes) <= bool(record["expected"])
        assert (record["kind"] in ("several", "pair")) == (len(record["expected"]) > 1)


def test_what_requests_by_hand_expect_is_in_the_world() -> None:
    for record in records():
        for expected in (ExpectedMedium(**medium) for medium in record["expected"]):
            if expected.modality == "audio":
                assert expected.concept in SOUNDS
                if expected.register or expected.contour:
                    assert expected.concept in PITCHED
            else:
                assert expected.concept in CONCEPTS
                assert expected.background in (None, *COLOURS)
            assert (expected.modality == "video") == (expected.motion in MOTIONS)


def test_no_request_by_hand_repeats_a_training_phrase() -> None:
    bank = load_bank("train")
    trained = {question.rstrip("?.!").lower() for question, _ in (*bank.chat, *bank.after_picture)}
    for record in records():
        for part in record["turns"][-1]["parts"]:
            assert isinstance(part, dict) or part.rstrip("?.!").lower() not in trained


def test_three_hundred_requests_hold_all_by_hand_and_every_kind(items: list[Item]) -> None:
    requests = held_out_requests(items, num=300, seed=3)
    assert len(requests) == len({request.id for request in requests}) == 300
    assert [request.id for request in requests[:90]] == [record["id"] for record in records()]
    counts = Counter(request.kind for request in requests)
    assert counts.keys() == KINDS
    assert min(counts.values()) >= SAMPLED_KINDS.count("outside") * 7
    assert 80 <= sum(not request.expected for request in requests) <= 140
    assert {len(request.expected) for request in requests} == {0, 1, 2, 3}
    media = Counter(medium.modality for request in requests for medium in request.expected)
    assert min(media[modality] for modality in ("image", "audio", "video")) >= 45
    assert all(request.turns[-1].role == "user" for request in requests)
    assert requests == held_out_requests(items, num=300, seed=3)


def test_an_expected_background_is_open_only_where_the_user_left_it_open(
    items: list[Item],
) -> None:
    for request in held_out_requests(items, num=300):
        said = [part for turn in request.turns if turn.role == "user" for part in turn.parts]
        shown = [
            medium.scene.background
            for turn in request.turns
            for medium in turn.media
            if medium.modality != "audio"
        ]
        words = " ".join(part for part in said if isinstance(part, str)).lower()
        for expected in request.expected:
            if expected.background is not None:
                # A typing error may hide the word.
                letters = sorted(words)
                named = all(letters.count(letter) for letter in expected.background)
                assert named or expected.background in shown, request.id
            elif len(request.expected) == len(request.turns) == 1 and expected.modality != "audio":
                assert not any(colour in words.split() for colour in COLOURS), request.id


def test_a_medium_expected_is_the_one_a_good_answer_shows(items: list[Item]) -> None:
    sampler = DialogueSampler(items, "held_out", 0)
    for number in range(30):
        [sound] = sampled_request(sampler, number, "sound").expected
        scene = sampler(number, "sound")[-1].media[0].scene
        assert isinstance(scene, SoundScene)
        assert (sound.modality, sound.concept) == ("audio", scene.sound)
        assert (sound.register, sound.contour) == (scene.register, scene.contour)
        assert sound.motion is sound.background is None
        [clip] = sampled_request(sampler, number, "animate").expected
        scene = sampler(number, "animate")[-1].media[0].scene
        assert isinstance(scene, MotionScene)
        assert (clip.modality, clip.concept, clip.motion) == ("video", scene.concept, scene.motion)
        assert clip.background in (None, scene.background)


def test_a_request_by_hand_shows_media_that_differ_in_no_word(items: list[Item]) -> None:
    requests = {request.id: request for request in held_out_requests(items)}
    [sound] = requests["cross-01"].turns[0].media
    assert (sound.item.modality, sound.item.concept) == ("audio", "dog")
    [clip] = requests["watch-01"].turns[0].media
    assert (clip.item.concept, clip.item.attributes["motion"]) == ("horse", "right")
    assert requests["cross-01"].shown == {"audio"}


def test_a_request_whose_medium_is_missing_is_replaced_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = [
        *(picture_item(c, Scene(c, "red"), "validation") for c in ("dog", "cat")),
        *(sound_item(s, SoundScene(s), "validation") for s in ("dog", "cow")),
        *(clip_item(c, MotionScene(c, "red", "up"), "validation") for c in ("dog", "cat")),
    ]
    with caplog.at_level(logging.WARNING):
        requests = held_out_requests(items)
    assert len(requests) == 300
    assert "left out request look-01" in caplog.text
    assert "left out request watch-01" in caplog.text
    assert {"draw-01", "cross-01"} <= {request.id for request in requests}


def test_a_world_of_pictures_has_requests_for_pictures_only() -> None:
    requests = held_out_requests(picture_items())
    assert len(requests) == 300
    sampled = [request for request in requests if request.id.startswith("sampled")]
    assert {medium.modality for request in sampled for medium in request.expected} == {"image"}
    assert all(request.shown <= {"image"} for request in requests)


@pytest.fixture(scope="module")
def sampler(items: list[Item]) -> DialogueSampler:
    return DialogueSampler(items, "held_out", 3)


def test_further_requests_are_of_their_kinds_in_turn_and_fit(sampler: DialogueSampler) -> None:
    requests = further_requests(sampler, ("draw", "sound"), 10, 100)
    assert [request.kind for request in requests] == ["draw", "sound"] * 5
    assert requests == further_requests(sampler, ("draw", "sound"), 12, 100)[:10]
    dogs = further_requests(sampler, ("draw",), 5, 0, lambda r: r.expected[0].concept == "dog")
    assert [request.expected[0].concept for request in dogs] == ["dog"] * 5


def test_further_requests_are_fewer_where_there_are_no_media() -> None:
    pictures = DialogueSampler(picture_items(), "held_out")
    assert further_requests(pictures, ("sound",), 5, 0) == []
    assert {r.kind for r in further_requests(pictures, ("sound", "draw"), 5, 0)} == {"draw"}


def test_sixty_things_are_outside_the_world_and_outside_the_training(
    sampler: DialogueSampler,
) -> None:
    requests = outside_requests(sampler, ("image", "audio", "video"))
    assert len({request.id for request in requests}) == len(requests) == 60
    assert not any(request.expected for request in requests)
    assert len(outside_requests(sampler, ("image",))) == 30
    bank = load_bank("train")
    trained = " ".join((*bank.outside, *bank.outside_sounds, *bank.outside_clips)).lower()
    names = {name for name in (*CONCEPTS, *SOUNDS)}
    for request in requests:
        thing = request.id.removeprefix("outside-").replace("-", " ")
        assert thing.lower() not in trained
        assert not names & set(thing.split()), "the world holds it"
        [turn] = request.turns
        words = re.findall(r"\w+", str(turn.parts[0]).lower())
        # Two letters of a word may be swapped.
        assert sorted(thing.split()[-1].lower()) in [sorted(word) for word in words]


def test_a_reference_asks_for_a_picture_by_an_earlier_medium(sampler: DialogueSampler) -> None:
    requests = references(sampler, 60)
    assert len(requests) == 60
    befores = Counter()
    for request in requests:
        [before] = request.turns[1].media
        befores[before.modality] += 1
        [after] = request.expected
        assert after.modality == "image"
        if before.modality != "image":
            assert request.changed == ()
            assert after.concept in (getattr(before.scene, "concept", ""),) + (
                getattr(before.scene, "sound", ""),
            )
        elif "concept" not in request.changed:
            assert after.concept == before.scene.concept
        for name in set(request.changed) & {"count", "place", "size"}:
            assert getattr(after, name) != getattr(before.scene, name)
    assert set(befores) == {"image", "audio", "video"}
    assert sum(bool(request.changed) for request in requests) > 20
