"""The world's dialogues as training conversations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from dialogue_items import clip_items, picture_items, sound_items

from nextgpt.data.manifest import write_manifest
from nextgpt.media import Audio, Image, Video
from nextgpt.world.conversations import CaptionDialogues, WorldDialogues
from nextgpt.world.phrase_bank import load_bank


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "manifest.jsonl"
    write_manifest(path, [*picture_items(), *sound_items(), *clip_items()])
    return path


def test_dialogues_show_and_answer_with_media_of_every_modality(manifest: Path) -> None:
    source = WorldDialogues(manifest)
    shown, answered = Counter[type](), Counter[type]()
    for index in range(300):
        for message in source.conversation(index).messages:
            counts = shown if message.role == "user" else answered
            counts.update(type(medium) for medium in message.media)
    assert shown.keys() == answered.keys() == {Image, Audio, Video}


def test_an_answers_medium_carries_the_caption_it_was_asked_by(manifest: Path) -> None:
    source = WorldDialogues(manifest)
    for index in range(100):
        for message in source.conversation(index).messages:
            assert all(medium.caption for medium in message.media)


def test_a_choice_of_items_holds_as_many_of_each_modality(manifest: Path) -> None:
    source = WorldDialogues(manifest, num_items=50)
    assert Counter(item.modality for item in source.items) == {
        "image": 50,
        "audio": 50,
        "video": 50,
    }
    assert {item.split for item in source.items} == {"train"}
    assert len(source.media()) == len(source.captions()) == 150
    assert source.items == WorldDialogues(manifest, num_items=50).items
    assert source.items != WorldDialogues(manifest, num_items=50, seed=1).items
    assert source.provenance()["items"] == 150


def test_kinds_of_dialogues_come_in_the_shares_asked_for(manifest: Path) -> None:
    source = WorldDialogues(manifest, kind_weights={"listen": 1, "animate": 3})
    kinds = Counter[tuple[int, int]]()
    for index in range(200):
        asked, answered = source.conversation(index).messages
        kinds[len(asked.media), len(answered.media)] += 1
    assert set(kinds) == {(1, 0), (0, 1)}
    assert 120 <= kinds[0, 1] <= 180
    with pytest.raises(ValueError, match="dance"):
        WorldDialogues(manifest, kind_weights={"dance": 1}).conversation(0)


def test_the_same_index_gives_the_same_conversation(manifest: Path) -> None:
    first, second = WorldDialogues(manifest), WorldDialogues(manifest)
    for index in range(20):
        assert repr(first.conversation(index)) == repr(second.conversation(index))


def test_a_split_that_is_not_there_is_named(manifest: Path) -> None:
    with pytest.raises(ValueError, match="'spare'"):
        WorldDialogues(manifest, split="spare").conversation(0)


def test_captions_alone_are_wished_for_and_asked_about_in_turn(manifest: Path) -> None:
    source = CaptionDialogues(manifest)
    answered = Counter[tuple[type, bool]]()
    for index in range(120):
        asked, answer = source.conversation(index).messages
        [medium] = asked.media or answer.media
        assert bool(asked.media) == bool(index % 2)
        # Users misspell a word now and then; answers do not.
        assert medium.caption is not None and medium.caption in answer.text.lower()
        answered[type(medium), bool(answer.media)] += 1
    assert len(answered) == 6
    texts = [m.text for m in source.conversation(7).messages]
    assert texts == [m.text for m in CaptionDialogues(manifest).conversation(7).messages]


def test_what_is_taught_beside_the_world_is_not_refused(manifest: Path, tmp_path: Path) -> None:
    things = load_bank("train").outside
    taught = tmp_path / "own.jsonl"
    captions = [thing for thing in things if "zebra" not in thing]
    item = picture_items()[0]
    write_manifest(taught, [replace(item, caption=each) for each in captions])
    # These two share no word with the others, so they are left. A third of all wishes is for a
    # picture of such a thing: 34 of 100, give or take 5.
    left = ("zebra", "yo-yo")
    named = []
    for names in (None, taught):
        source = WorldDialogues(manifest, kind_weights={"outside": 1}, taught=names)
        answers = [source.conversation(index).messages[-1].text for index in range(100)]
        named.append(sum(any(thing in answer for thing in left) for answer in answers))
    assert named[0] < 5
    assert named[1] > 20
