"""The search for a medium of the world that shows a scene."""

from __future__ import annotations

import random

import pytest
from dialogue_items import (
    clip_item,
    clip_items,
    picture_item,
    picture_items,
    sound_item,
    sound_items,
)

from nextgpt.modality import Modality
from nextgpt.world.dialogue_media import (
    ClipIndex,
    DialogueMedia,
    DialogueTurn,
    PictureIndex,
    Recording,
    RecordingIndex,
    motion_scene_of,
    scene_of,
    sound_scene_of,
)
from nextgpt.world.motions import OWN, MotionScene
from nextgpt.world.scenes import Scene
from nextgpt.world.sounds import SoundScene

RNG = random.Random(0)


def test_the_nearest_picture_agrees_on_the_concept_first_and_the_count_late() -> None:
    small = picture_item("small", Scene("dog", "red", size="small"), "train")
    blue = picture_item("blue", Scene("dog", "blue"), "train")
    face = picture_item("face", Scene("dog", "blue", count=2), "train", view="face")
    cat = picture_item("cat", Scene("cat", "red", count=2), "train")
    index = PictureIndex([small, blue, face, cat])
    assert index.nearest(Scene("dog", "red", count=2), RNG) is small
    assert index.nearest(Scene("dog", "blue", count=2), RNG) is blue
    assert index.nearest(Scene("dog", "blue", style="flat"), RNG) is blue
    assert scene_of(cat) == Scene("cat", "red", count=2)
    with pytest.raises(ValueError, match="'owl'"):
        index.nearest(Scene("owl", "red"), RNG)


def test_the_nearest_picture_is_in_the_style_named_and_in_any_if_none_is() -> None:
    items = [
        picture_item(style, Scene("dog", "red", style=style), "train")
        for style in ("flat", "cartoon")
    ]
    index = PictureIndex(items)
    for seed in range(10):
        assert index.nearest(Scene("dog", "red", style="flat"), random.Random(seed)) is items[0]
    found = {index.nearest(Scene("dog", "red"), random.Random(seed)).id for seed in range(20)}
    assert found == {"flat", "cartoon"}


def test_the_nearest_sound_agrees_on_the_pitch_before_the_number_of_notes() -> None:
    two_high = sound_item("two_high", SoundScene("flute", 2, "high"), "train")
    three = sound_item("three", SoundScene("flute", 3), "train")
    both = sound_item("both", SoundScene("flute", second="harp"), "train")
    index = RecordingIndex([two_high, three, both])
    assert index.nearest(SoundScene("flute", 3, "high"), RNG) is two_high
    assert index.nearest(SoundScene("flute", 1), RNG) is three
    assert index.nearest(SoundScene("flute", second="harp"), RNG) is both
    assert sound_scene_of(both) == SoundScene("flute", second="harp")
    assert index.singles["flute"] == [two_high, three]


def test_the_nearest_clip_agrees_on_the_motion_before_the_background() -> None:
    up = clip_item("up", MotionScene("dog", "red", "up"), "train")
    own = clip_item("own", MotionScene("dog", "blue", OWN), "train")
    index = ClipIndex([up, own])
    assert index.nearest(MotionScene("dog", "blue", "up"), RNG) is up
    assert index.nearest(MotionScene("dog", "red", OWN), RNG) is own
    assert motion_scene_of(own) == MotionScene("dog", "blue", OWN)


def test_directions_lead_between_media_of_the_same_thing() -> None:
    directions = DialogueMedia([*picture_items(), *sound_items(), *clip_items()]).directions
    assert len(directions) == 6
    assert {"dog", "trumpet", "helicopter"} <= set(directions[Modality.IMAGE, Modality.AUDIO])
    assert not {"house", "oboe"} & set(directions[Modality.IMAGE, Modality.AUDIO])
    assert "house" in directions[Modality.IMAGE, Modality.VIDEO]


def test_a_world_of_pictures_alone_leads_nowhere() -> None:
    media = DialogueMedia(picture_items())
    assert list(media.indices) == [Modality.IMAGE]
    assert media.directions == {}


def test_a_turn_lists_its_media_in_order_and_its_pictures() -> None:
    scene = SoundScene("dog")
    recording = Recording(scene, "a dog barking", sound_item("dog", scene, "train"))
    turn = DialogueTurn("assistant", ("Here is a dog barking.", recording))
    assert turn.media == (recording,)
    assert turn.pictures == ()
    assert recording.modality == "audio"
