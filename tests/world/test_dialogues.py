"""Dialogues of the micro world: what is said, what is shown, and what is kept for evaluation."""

from __future__ import annotations

import re
from collections import Counter
from typing import get_args

import pytest
from dialogue_items import clip_items, media, picture_items, sound_items, texts

from nextgpt.data.manifest import Item
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogues import (
    KIND_WEIGHTS,
    Clip,
    DialogueSampler,
    DialogueTurn,
    Kind,
    Picture,
    Recording,
    Shown,
)
from nextgpt.world.motions import LOOPS, OWN, describe_motion
from nextgpt.world.phrase_bank import load_bank
from nextgpt.world.scenes import Scene, describe, is_held_out_pair
from nextgpt.world.sound_talk import plain
from nextgpt.world.sounds import SOUNDS, describe_sound, is_held_out_sound

NUM_DIALOGUES = 2500
MODALITY_OF: dict[Kind, str] = {
    **{"draw": "image", "sound": "audio", "animate": "video"},
    **{"look": "image", "listen": "audio", "watch": "video"},
}
PICTURES_ALONE = {"draw", "look", "chat", "multi_turn", "several", "pair", "transform", "outside"}
PICTURES_ALONE |= {"couple"}


@pytest.fixture(scope="module")
def pictures() -> list[Item]:
    return picture_items()


@pytest.fixture(scope="module")
def items(pictures: list[Item]) -> list[Item]:
    return [*pictures, *sound_items(), *clip_items()]


@pytest.fixture(scope="module")
def train(items: list[Item]) -> DialogueSampler:
    return DialogueSampler(items, "train", seed=0)


@pytest.fixture(scope="module")
def held_out(items: list[Item]) -> DialogueSampler:
    return DialogueSampler(items, "held_out", seed=0)


@pytest.fixture(scope="module")
def dialogues(train: DialogueSampler) -> list[list[DialogueTurn]]:
    return [train(index) for index in range(NUM_DIALOGUES)]


def is_kept_from_training(shown: Shown) -> bool:
    if isinstance(shown, Recording):
        return is_held_out_sound(shown.scene)
    return is_held_out_pair(shown.scene.concept, shown.scene.background)


def caption_of(shown: Shown) -> str:
    if isinstance(shown, Recording):
        return describe_sound(shown.scene)
    return describe(shown.scene) if isinstance(shown, Picture) else describe_motion(shown.scene)


# The sampler.


def test_the_same_seed_and_index_give_the_same_dialogue(items: list[Item]) -> None:
    first, second, third = (DialogueSampler(items, seed=seed) for seed in (1, 1, 2))
    forwards = [first(index) for index in range(100)]
    assert forwards == [second(index) for index in reversed(range(100))][::-1]
    assert forwards != [third(index) for index in range(100)]


def test_training_never_shows_or_asks_for_what_is_held_out(
    dialogues: list[list[DialogueTurn]],
) -> None:
    shown = [medium for turns in dialogues for medium in media(turns)]
    assert Counter(type(medium) for medium in shown).keys() == {Picture, Recording, Clip}
    for medium in shown:
        assert not is_kept_from_training(medium)
        assert medium.item.split == "train"


def test_evaluation_shows_no_training_medium_and_asks_for_what_is_held_out(
    held_out: DialogueSampler,
) -> None:
    dialogues = [held_out(index) for index in range(1500)]
    shown = [medium for turns in dialogues for medium in media(turns)]
    assert "train" not in {medium.item.split for medium in shown}
    asked = [medium for turns in dialogues for medium in media(turns, "assistant")]
    kept = {type(medium) for medium in asked if is_kept_from_training(medium)}
    assert kept == {Picture, Recording, Clip}


@pytest.mark.parametrize("bank", ["train", "held_out"])
def test_no_wish_is_for_a_loop_that_training_never_shows(items: list[Item], bank: str) -> None:
    sampler = DialogueSampler(items, bank)  # type: ignore[arg-type]
    asked = {
        (clip.scene.concept, clip.scene.motion)
        for kind in ("animate", "several")
        for index in range(400)
        for clip in media(sampler(index, kind), "assistant")
        if isinstance(clip, Clip) and clip.scene.motion in LOOPS
    }
    assert len(asked) > 5
    assert {motion for _, motion in asked} == {OWN}


@pytest.mark.parametrize("kind", ["draw", "sound", "animate"])
def test_a_wish_is_answered_with_one_medium_of_its_modality(
    train: DialogueSampler, kind: Kind
) -> None:
    for index in range(200):
        turns = train(index, kind)
        assert [turn.role for turn in turns] == ["user", "assistant"]
        assert media(turns, "user") == []
        assert [medium.modality for medium in media(turns, "assistant")] == [MODALITY_OF[kind]]
        assert texts(turns, "assistant")


@pytest.mark.parametrize("kind", ["look", "listen", "watch"])
def test_a_question_shows_one_medium_and_is_answered_in_words(
    train: DialogueSampler, kind: Kind
) -> None:
    alone = 0
    for index in range(300):
        turns = train(index, kind)
        assert [medium.modality for medium in media(turns, "user")] == [MODALITY_OF[kind]]
        assert media(turns, "assistant") == []
        assert len(texts(turns, "assistant")) == 1
        alone += not texts(turns, "user")
    # 4% of 300 are 12; five standard deviations are 17.
    assert 0 < alone < 29


def test_a_transformed_medium_stays_in_its_modality(train: DialogueSampler) -> None:
    seen = set()
    for index in range(200):
        (given,), (made,) = (media(train(index, "transform"), r) for r in ("user", "assistant"))
        assert given.modality == made.modality
        seen.add(given.modality)
    assert seen == {"image", "audio", "video"}


def test_crossing_leads_in_every_direction_and_keeps_the_thing(train: DialogueSampler) -> None:
    directions = Counter()
    for index in range(600):
        (given,), (made,) = (media(train(index, "cross"), r) for r in ("user", "assistant"))
        assert given.item.concept == made.item.concept
        directions[given.modality, made.modality] += 1
        if not isinstance(given, Recording) and not isinstance(made, Recording):
            assert given.scene.background == made.scene.background
        if isinstance(made, Recording):
            assert made.scene == plain(made.item.concept)
    assert len(directions) == 6 and all(given != made for given, made in directions)
    assert min(directions.values()) > 50


def test_several_media_come_in_one_reply_each_behind_its_caption(train: DialogueSampler) -> None:
    mixes = set()
    for index in range(600):
        turns = train(index, "several")
        shown = turns[-1].media
        assert media(turns, "user") == []
        assert len(shown) in (2, 3)
        assert len({medium.item.concept for medium in shown}) == len(shown)
        (*pairs,) = zip(turns[-1].parts[::2], turns[-1].parts[1::2], strict=True)
        for text, medium in pairs:
            assert isinstance(text, str) and not isinstance(medium, str)
            assert medium.caption in text.lower()
        mixes.add(tuple(medium.modality for medium in shown))
    # All orders of two or three modalities, but two pictures, which are a kind of their own.
    assert len(mixes) == 9 + 27 - 1


def test_several_media_come_in_the_order_asked(train: DialogueSampler) -> None:
    compared = 0
    for index in range(400):
        turns = train(index, "several")
        (request,) = texts(turns, "user")
        places = [request.lower().find(medium.item.concept) for medium in turns[-1].media]
        if -1 not in places:
            assert places == sorted(places), request
            compared += 1
    # Other names, plurals and typing errors hide the rest.
    assert compared > 200


@pytest.mark.parametrize("kind", ["chat", "outside"])
def test_plain_questions_and_refusals_hold_no_medium(train: DialogueSampler, kind: Kind) -> None:
    for index in range(400):
        turns = train(index, kind)
        assert media(turns, "assistant") == []
        assert len(media(turns, "user")) <= (kind == "outside")
        assert len(texts(turns, "assistant")) == 1
        if kind == "outside":
            assert re.match(r"Sorry|I am sorry", texts(turns, "assistant")[0])


def test_what_is_refused_is_not_what_the_world_holds(train: DialogueSampler) -> None:
    answers = " ".join(texts(train(index, "outside"), "assistant")[0] for index in range(3000))
    unseen = set(re.findall(r"draw (?:an? )?(\w+) yet", answers))
    assert {"oboe", "tuba", "harp"} <= unseen and not unseen & set(CONCEPTS)
    unmoved = set(re.findall(r"clip of (?:an? )?(\w+) yet", answers))
    assert "harp" in unmoved and not unmoved & set(CONCEPTS)
    unheard = set(re.findall(r"what (?:an? )?(\w+) sounds", answers))
    assert {"house", "lion"} <= unheard and not unheard & set(SOUNDS)


def test_two_pictures_come_in_one_reply(train: DialogueSampler) -> None:
    for index in range(100):
        shown = media(train(index, "pair"), "assistant")
        assert [medium.modality for medium in shown] == ["image", "image"]


def test_two_things_come_in_one_picture(train: DialogueSampler, held_out: DialogueSampler) -> None:
    for sampler in (train, held_out):
        num_named = 0
        for index in range(100):
            turns = sampler(index, "couple")
            (picture,) = media(turns)
            scene = picture.scene
            assert isinstance(scene, Scene) and scene.second
            assert is_held_out_pair(scene.concept, scene.second) == (sampler is held_out)
            assert picture.caption in texts(turns, "assistant")[0].lower()
            (request,) = texts(turns, "user")
            num_named += all(noun in request.lower() for noun in (scene.concept, scene.second))
        # Other names and typing errors hide the rest.
        assert num_named > 60


def test_several_turns_alternate_and_are_two_to_four(train: DialogueSampler) -> None:
    lengths = set()
    for index in range(300):
        turns = train(index, "multi_turn")
        assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        lengths.add(len(turns) // 2)
    assert lengths == {2, 3, 4}


def test_later_turns_refer_to_media_of_another_modality(train: DialogueSampler) -> None:
    bank, crossings = load_bank("train"), Counter()
    references = {
        tuple(section.removeprefix("then_").split("_to_")): set(phrases)
        for section, phrases in bank.phrases.items()
        if section.startswith("then_")
    }
    for index in range(2500):
        turns = train(index, "multi_turn")
        for before, request, answer in zip(turns[1:], turns[2:], turns[3:], strict=False):
            if before.media and answer.media and isinstance(request.parts[0], str):
                pair = (before.media[-1].modality, answer.media[0].modality)
                said = request.parts[0].lower().rstrip(".")
                if said in references.get(pair, ()):
                    assert before.media[-1].item.concept == answer.media[0].item.concept
                    crossings[pair] += 1
    assert crossings.keys() == references.keys()


def test_kinds_occur_by_their_weights(items: list[Item]) -> None:
    sampler = DialogueSampler(items, kind_weights={"pair": 3, "chat": 1})
    counts = Counter(len(sampler(index)[-1].media) for index in range(2000))
    # Binomial with p = 0.75: five standard deviations are 0.048.
    assert counts.keys() == {0, 2}
    assert abs(counts[2] / 2000 - 0.75) < 0.048
    assert KIND_WEIGHTS.keys() == set(get_args(Kind))
    assert sum(KIND_WEIGHTS.values()) == pytest.approx(1)


def test_a_world_of_pictures_alone_has_dialogues_of_pictures_alone(pictures: list[Item]) -> None:
    sampler = DialogueSampler(pictures)
    assert sampler.kind_weights.keys() == PICTURES_ALONE
    shown = [medium for index in range(1000) for medium in media(sampler(index))]
    assert {medium.modality for medium in shown} == {"image"}
    with pytest.raises(ValueError, match="'listen'"):
        sampler(0, "listen")
    with pytest.raises(ValueError, match="watch"):
        DialogueSampler(pictures, kind_weights={"watch": 1})


def test_an_unknown_bank_or_kind_and_an_empty_world_are_named(items: list[Item]) -> None:
    with pytest.raises(ValueError, match="'spare' is not one of: train, held_out"):
        DialogueSampler(items, "spare")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dance"):
        DialogueSampler(items, kind_weights={"dance": 1.0})  # type: ignore[dict-item]
    held_out = [item for item in items if item.split != "train"]
    with pytest.raises(ValueError, match=f"none of {len(held_out)} items .* 'train'"):
        DialogueSampler(held_out, "train")


# What is said.


def test_texts_are_whole_short_and_grammatical(
    dialogues: list[list[DialogueTurn]], held_out: DialogueSampler
) -> None:
    evaluated = [held_out(index) for index in range(800)]
    for text in (text for turns in (*dialogues, *evaluated) for text in texts(turns)):
        assert text and "{" not in text and "  " not in text
        assert not re.search(r"\ba (?!one\b|ewe\b)[aeio]", text, re.IGNORECASE), text
        assert not re.search(r"\ban (?!mp[34]\b)[^aeiouhx]", text, re.IGNORECASE), text
        assert not re.search(r"(two|three|2|3) (sheeps|fishes|strawberrys|buss)\b", text), text
        assert not re.search(r"\b(one|1|single) (\S+ )*?(notes|beats)\b", text), text
        assert not re.search(r"\b(two|three|four|2|3|4) (note|beat)\b", text), text
        assert len(text.split()) <= 45, text


def test_most_requests_are_worded_differently(dialogues: list[list[DialogueTurn]]) -> None:
    said = [text for turns in dialogues for text in texts(turns, "user")]
    assert len(set(said)) / len(said) > 0.8


def test_captions_are_canonical_and_most_stand_right_before_their_medium(
    dialogues: list[list[DialogueTurn]],
) -> None:
    before = []
    for turn in (turn for turns in dialogues for turn in turns if turn.role == "assistant"):
        for place, medium in enumerate(turn.parts):
            if not isinstance(medium, str):
                assert medium.caption == caption_of(medium)
                text = turn.parts[place - 1] if place else ""
                before.append(isinstance(text, str) and medium.caption in text.lower())
    # Measured: 0.94.
    assert sum(before) / len(before) > 0.9


def test_the_example_of_three_media_is_within_what_training_says() -> None:
    phrases = load_bank("train").phrases
    assert "{first}, {second}, and {third}" in phrases["three_clauses"]
    assert "show me {scene}" in phrases["clause_image"]
    assert "let me hear {sound}" in phrases["clause_audio"]
    assert "make a short clip of {clip}" in phrases["clause_video"]
    assert "flying up" in load_bank("train").words["motion"]["up"]
