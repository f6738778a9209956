"""Dialogues of the micro world: what is said, what is shown, and what is kept for evaluation."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from nextgpt.data.manifest import Item
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogue_pictures import PictureIndex
from nextgpt.world.dialogues import (
    KIND_WEIGHTS,
    DialogueSampler,
    DialogueTurn,
    Kind,
    Picture,
    scene_of,
)
from nextgpt.world.phrase_bank import (
    PhraseBank,
    answer_slots,
    concept_notes,
    held_out_stems,
    load_bank,
    load_replies,
    say_thing,
)
from nextgpt.world.scenes import (
    COLOURS,
    Scene,
    describe,
    is_held_out_pair,
    sample_scene,
    trained_backgrounds,
)

NUM_DIALOGUES = 3000


def make_item(name: str, scene: Scene, split: str, view: str = "whole") -> Item:
    attributes = {
        "background": scene.background,
        "size": scene.size,
        "place": scene.place,
        "count": scene.count,
        "style": scene.style,
        "view": view,
    }
    return Item(
        name, "image", f"{name}.png", describe(scene), scene.concept, attributes, "", "", split
    )


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Every concept on every background, in the split the world puts it, with other scenes."""
    rng = random.Random(0)
    scenes = [Scene(c, b) for c in CONCEPTS for b in COLOURS]
    scenes += [sample_scene(rng, concept) for concept in CONCEPTS for _ in range(30)]
    made = []
    for number, scene in enumerate(scenes):
        pair_held_out = is_held_out_pair(scene.concept, scene.background)
        for split in ("held_out_pair",) if pair_held_out else ("train", "validation"):
            made.append(make_item(f"{split}-{number}", scene, split))
    return made


@pytest.fixture(scope="module")
def train(items: list[Item]) -> DialogueSampler:
    return DialogueSampler(items, "train", seed=0)


@pytest.fixture(scope="module")
def dialogues(train: DialogueSampler) -> list[list[DialogueTurn]]:
    return [train(index) for index in range(NUM_DIALOGUES)]


def texts(turns: list[DialogueTurn]) -> list[str]:
    return [part for turn in turns for part in turn.parts if isinstance(part, str)]


def pictures(turns: list[DialogueTurn], role: str) -> list[Picture]:
    return [picture for turn in turns if turn.role == role for picture in turn.pictures]


def requests_of(bank: PhraseBank) -> list[str]:
    """Everything the users of a bank may say."""
    pairs = (*bank.chat, *bank.after_picture, *bank.no_picture, *bank.outside_requests)
    words = [word for kind in bank.words.values() for group in kind.values() for word in group]
    phrases = [phrase for section in bank.phrases.values() for phrase in section]
    return [*phrases, *words, *(question for question, _ in pairs), *bank.outside]


def uses_held_out_word(phrase: str) -> bool:
    said = re.sub(r"\{\w+\}", "", phrase.lower())
    return any(re.search(rf"\b{stem}", said) for stem in held_out_stems())


# The banks.


def test_the_training_bank_holds_several_hundred_phrasings_and_250_plain_answers() -> None:
    bank = load_bank("train")
    assert sum(len(set(section)) for section in bank.phrases.values()) > 400
    assert len(set(bank.chat)) >= 250
    assert len(set(bank.outside)) >= 40


def test_no_training_text_holds_a_word_kept_for_evaluation() -> None:
    bank = load_bank("train")
    answers = [a for _, a in (*bank.chat, *bank.after_picture, *bank.no_picture)]
    templates = [template for section in load_replies().values() for template in section]
    facts = [concept_notes(concept).fact for concept in CONCEPTS]
    said = [*requests_of(bank), *answers, *templates, *facts]
    assert [text for text in said if uses_held_out_word(text)] == []


def test_held_out_drawing_requests_use_held_out_words() -> None:
    phrases = load_bank("held_out").phrases["draw"]
    assert sum(uses_held_out_word(phrase) for phrase in phrases) / len(phrases) > 0.85


def test_the_banks_share_their_sections_and_no_phrase() -> None:
    train, held_out = load_bank("train"), load_bank("held_out")
    assert train.phrases.keys() == held_out.phrases.keys()
    shared_on_purpose = {"background"}
    for section in train.phrases.keys() - shared_on_purpose:
        assert not set(train.phrases[section]) & set(held_out.phrases[section]), section
    assert not {question for question, _ in train.chat} & {q for q, _ in held_out.chat}
    assert not set(train.outside) & set(held_out.outside)


@pytest.mark.parametrize("name", ["train", "held_out"])
def test_every_plain_question_has_an_answer(name: str) -> None:
    bank = load_bank(name)  # type: ignore[arg-type]
    for pair in (*bank.chat, *bank.after_picture, *bank.no_picture, *bank.outside_requests):
        assert all(pair), pair


def test_every_concept_has_notes_and_a_background_it_is_trained_on() -> None:
    for concept in CONCEPTS:
        notes = concept_notes(concept)
        assert notes.background in trained_backgrounds(concept)
        assert notes.fact.endswith(".")
        assert not set(notes.aliases) & set(CONCEPTS)
        assert not {f"a {alias}" for alias in notes.aliases} & set(load_bank("train").outside)


def test_wordings_agree_in_number() -> None:
    slots = answer_slots(Scene("sheep", "blue", count=2))
    assert (slots["here_is"], slots["subject"], slots["counted"]) == (
        "Here are",
        "two sheep",
        "two sheep",
    )
    assert answer_slots(Scene("owl", "orange"))["caption"] == "an owl on an orange background"
    for seed in range(20):
        words = say_thing(Scene("bus", "red", count=3), load_bank("train"), random.Random(seed))
        assert words in ("three buses", "3 buses")


# The sampler.


def test_the_same_seed_and_index_give_the_same_dialogue(items: list[Item]) -> None:
    first, second, third = (DialogueSampler(items, seed=seed) for seed in (1, 1, 2))
    forwards = [first(index) for index in range(50)]
    assert forwards == [second(index) for index in reversed(range(50))][::-1]
    assert forwards != [third(index) for index in range(50)]


def test_training_never_shows_or_asks_for_a_held_out_pair(
    dialogues: list[list[DialogueTurn]],
) -> None:
    for turns in dialogues:
        for picture in pictures(turns, "user") + pictures(turns, "assistant"):
            assert not is_held_out_pair(picture.scene.concept, picture.scene.background)
            assert picture.item.split == "train"


def test_evaluation_shows_no_training_picture(items: list[Item]) -> None:
    sampler = DialogueSampler(items, "held_out")
    shown = [
        picture for index in range(500) for turn in sampler(index) for picture in turn.pictures
    ]
    assert "train" not in {picture.item.split for picture in shown}
    assert any(is_held_out_pair(p.scene.concept, p.scene.background) for p in shown)


@pytest.mark.parametrize(
    ("kind", "num_shown", "num_answered"),
    [
        ("draw", 0, 1),
        ("look", 1, 0),
        ("chat", 0, 0),
        ("transform", 1, 1),
        ("pair", 0, 2),
        ("outside", 0, 0),
    ],
)
def test_a_kind_shows_and_answers_with_its_number_of_pictures(
    train: DialogueSampler, kind: Kind, num_shown: int, num_answered: int
) -> None:
    for index in range(200):
        turns = train(index, kind)
        assert [turn.role for turn in turns] == ["user", "assistant"]
        assert len(pictures(turns, "user")) == num_shown
        assert len(pictures(turns, "assistant")) == num_answered
        assert any(isinstance(part, str) for part in turns[-1].parts)


def test_several_turns_alternate_and_are_two_to_four(train: DialogueSampler) -> None:
    lengths = set()
    for index in range(300):
        turns = train(index, "multi_turn")
        assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        lengths.add(len(turns) // 2)
    assert lengths == {2, 3, 4}


def test_kinds_occur_by_their_weights(items: list[Item]) -> None:
    sampler = DialogueSampler(items, kind_weights={"pair": 3, "chat": 1})
    counts = Counter(len(sampler(index)[-1].pictures) for index in range(2000))
    # Binomial with p = 0.75: five standard deviations are 0.048.
    assert counts.keys() == {0, 2}
    assert abs(counts[2] / 2000 - 0.75) < 0.048
    assert sum(KIND_WEIGHTS.values()) == pytest.approx(1)


def test_texts_are_whole_short_and_grammatical(dialogues: list[list[DialogueTurn]]) -> None:
    for text in (text for turns in dialogues for text in texts(turns)):
        assert text and "{" not in text and "  " not in text
        assert not re.search(r"\ba [aeio]", text, re.IGNORECASE), text
        assert not re.search(r"\ban [^aeiouh]", text, re.IGNORECASE), text
        assert not re.search(r"(two|three|2|3) (sheeps|fishes|strawberrys|buss)\b", text), text
        assert len(text.split()) <= 30, text


def test_most_requests_are_worded_differently(dialogues: list[list[DialogueTurn]]) -> None:
    said = [
        part
        for turns in dialogues
        for turn in turns
        for part in turn.parts
        if turn.role == "user" and isinstance(part, str)
    ]
    assert len(set(said)) / len(said) > 0.8


def test_captions_are_canonical_and_full_answers_repeat_them(train: DialogueSampler) -> None:
    repeated = 0
    for index in range(300):
        turns = train(index, "draw")
        (picture,) = turns[-1].pictures
        assert picture.caption == describe(picture.scene)
        repeated += picture.caption in " ".join(texts(turns[-1:])).lower()
    assert repeated > 200


def test_answers_about_a_picture_fit_the_picture_shown(train: DialogueSampler) -> None:
    for index in range(500):
        turns = train(index, "look")
        (picture,) = pictures(turns, "user")
        scene = scene_of(picture.item)
        words = set(re.findall(r"\w+", texts(turns[-1:])[0].lower()))
        other_names = {c.name for c in CONCEPTS.values()} | {c.plural for c in CONCEPTS.values()}
        other_names -= {scene.concept, CONCEPTS[scene.concept].plural}
        # "orange" is a colour only: no concept is called so.
        assert not words & other_names
        assert not words & (set(COLOURS) - {scene.background})


def test_an_unnamed_background_is_the_concepts_own(train: DialogueSampler) -> None:
    for index in range(300):
        turns = train(index, "draw")
        (picture,) = turns[-1].pictures
        if not picture.background_named:
            own = concept_notes(picture.scene.concept).background
            assert picture.scene.background == own
            assert not set(COLOURS) & set(texts(turns[:1])[0].lower().split())


def test_the_nearest_picture_agrees_on_the_concept_first_and_the_count_late() -> None:
    small = make_item("small", Scene("dog", "red", size="small"), "train")
    blue = make_item("blue", Scene("dog", "blue"), "train")
    face = make_item("face", Scene("dog", "blue", count=2), "train", view="face")
    cat = make_item("cat", Scene("cat", "red", count=2), "train")
    index, rng = PictureIndex([small, blue, face, cat]), random.Random(0)
    assert index.nearest(Scene("dog", "red", count=2), rng) is small
    assert index.nearest(Scene("dog", "blue", count=2), rng) is blue
    assert index.nearest(Scene("dog", "blue", style="flat"), rng) is blue
    assert scene_of(replace(cat)) == Scene("cat", "red", count=2)
    with pytest.raises(ValueError, match="'owl'"):
        index.nearest(Scene("owl", "red"), rng)


def test_an_unknown_bank_or_kind_and_an_empty_world_are_named(items: list[Item]) -> None:
    with pytest.raises(ValueError, match="'spare' is not one of: train, held_out"):
        DialogueSampler(items, "spare")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dance"):
        DialogueSampler(items, kind_weights={"dance": 1.0})  # type: ignore[dict-item]
    held_out = [item for item in items if item.split != "train"]
    with pytest.raises(ValueError, match=f"none of {len(held_out)} items .* 'train'"):
        DialogueSampler(held_out, "train")
