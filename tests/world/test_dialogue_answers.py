"""Answers and wishes of the micro world fit what they are about."""

from __future__ import annotations

import re

import pytest
from dialogue_items import clip_items, media, picture_items, sound_items, texts

from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogues import (
    Clip,
    DialogueSampler,
    Recording,
    Shown,
    motion_scene_of,
    scene_of,
    sound_scene_of,
)
from nextgpt.world.motions import MOTIONS, motion_phrase
from nextgpt.world.phrase_bank import concept_notes, load_bank, sound_notes
from nextgpt.world.scenes import COLOURS
from nextgpt.world.sound_talk import plain
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS


@pytest.fixture(scope="module")
def train() -> DialogueSampler:
    return DialogueSampler([*picture_items(), *sound_items(), *clip_items()], "train", seed=0)


def test_answers_about_a_picture_fit_the_picture_shown(train: DialogueSampler) -> None:
    for index in range(500):
        turns = train(index, "look")
        (picture,) = media(turns, "user")
        scene = scene_of(picture.item)
        words = set(re.findall(r"\w+", texts(turns[-1:])[0].lower()))
        other_names = {c.name for c in CONCEPTS.values()} | {c.plural for c in CONCEPTS.values()}
        other_names -= {scene.concept, CONCEPTS[scene.concept].plural, scene.second}
        # "orange" is a colour only: no concept is called so.
        assert not words & other_names
        assert not words & (set(COLOURS) - {scene.background})


def test_answers_about_a_sound_fit_the_sound_heard(train: DialogueSampler) -> None:
    for index in range(500):
        turns = train(index, "listen")
        (recording,) = media(turns, "user")
        scene = sound_scene_of(recording.item)
        words = set(re.findall(r"\w+", texts(turns[-1:])[0].lower()))
        assert not words & (set(SOUNDS) - {scene.sound, scene.second, *caption_words(recording)})
        qualities = {"low", "high", "rising", "falling", "quickly", "slowly"}
        assert words & qualities <= caption_words(recording)


def test_answers_about_a_clip_fit_the_clip_watched(train: DialogueSampler) -> None:
    for index in range(500):
        turns = train(index, "watch")
        (clip,) = media(turns, "user")
        scene = motion_scene_of(clip.item)
        answer = texts(turns[-1:])[0].lower()
        words = set(re.findall(r"\w+", answer))
        assert not words & (set(CONCEPTS) - {scene.concept})
        assert not words & (set(COLOURS) - {scene.background})
        others = {phrase for phrase in MOTIONS.values() if phrase != motion_phrase(scene)}
        assert not any(phrase in answer for phrase in others)


def caption_words(shown: Shown) -> set[str]:
    return set(re.findall(r"\w+", shown.caption))


def test_an_unnamed_background_is_the_concepts_own(train: DialogueSampler) -> None:
    for kind in ("draw", "animate"):
        for index in range(300):
            turns = train(index, kind)
            (shown,) = turns[-1].media
            assert not isinstance(shown, Recording)
            if not shown.background_named:
                own = concept_notes(shown.scene.concept).background
                assert shown.scene.background == own
                assert not set(COLOURS) & set(texts(turns[:1])[0].lower().split())


def test_an_instrument_without_details_plays_three_notes(train: DialogueSampler) -> None:
    checked = 0
    details = re.compile(
        r"n[ot]{2}e|beat|\d| and |with|low|high|deep|slow|fast|quick", re.IGNORECASE
    )
    for index in range(600):
        turns = train(index, "sound")
        (recording,) = turns[-1].media
        request = texts(turns[:1])[0]
        if recording.item.concept in INSTRUMENTS and not details.search(request):
            if sound_notes(recording.item.concept).source in request.lower():
                assert recording.scene == plain(recording.item.concept), request
                checked += 1
    assert checked > 80


def test_a_motion_that_is_named_is_the_one_shown(train: DialogueSampler) -> None:
    words = load_bank("train").words
    said_of = {
        motion: {*words["motion"][motion], *words["motion_verb"][motion]} for motion in MOTIONS
    }
    checked = 0
    for index in range(600):
        turns = train(index, "animate")
        (clip,) = turns[-1].media
        assert isinstance(clip, Clip)
        request = texts(turns[:1])[0].lower()
        for motion, wordings in said_of.items():
            participles = [wording for wording in wordings if re.search(r"ing\b", wording)]
            if any(re.search(rf"\b{wording}\b", request) for wording in participles):
                assert clip.scene.motion == motion, request
                checked += 1
    assert checked > 250
