"""The phrases of the dialogues, read from the ``phrases`` folder, and the wording of a scene.

``train.toml`` and ``held_out.toml`` hold the users' phrasings under the same section names, so that
the two banks are interchangeable; the answers in ``replies.toml`` belong to both.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.scenes import (
    COUNT_WORDS,
    PLACE_PHRASES,
    Scene,
    describe,
    trained_backgrounds,
    with_article,
)

BankName = Literal["train", "held_out"]
QuestionAndAnswer = tuple[str, str]

ALIAS_PROBABILITY = 0.08
TYPO_PROBABILITY = 0.04
OPENER_PROBABILITY = 0.05


@dataclass(frozen=True)
class ConceptNotes:
    """What dialogues say about a concept besides its name."""

    aliases: tuple[str, ...]
    """Other names users have for it; answers always use the concept's own."""
    background: str
    """Background of its pictures when the user names none; never one kept from training."""
    fact: str
    """One true sentence."""


@dataclass(frozen=True)
class PhraseBank:
    """Everything users may say, from one of the two banks."""

    name: BankName
    phrases: dict[str, tuple[str, ...]]
    """Section -> phrasings with slots."""
    words: dict[str, dict[str, tuple[str, ...]]]
    """"size", "place", "number" and "opener" -> value -> the words users have for it."""
    chat: tuple[QuestionAndAnswer, ...]
    """Plain questions; no medium is asked for."""
    after_picture: tuple[QuestionAndAnswer, ...]
    """Remarks that follow a picture; no medium is asked for."""
    no_picture: tuple[QuestionAndAnswer, ...]
    """Questions about a picture and edits of one where none was shown."""
    outside: tuple[str, ...]
    """Things the world does not hold."""
    outside_requests: tuple[QuestionAndAnswer, ...]
    """Wishes other than pictures that cannot be granted."""


def _read(name: str) -> dict[str, Any]:
    path = resources.files("nextgpt.world") / "phrases" / name
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _lines(block: str) -> tuple[str, ...]:
    return tuple(line for line in block.splitlines() if line)


def _pairs(block: str) -> tuple[QuestionAndAnswer, ...]:
    split = (line.partition(" | ") for line in _lines(block))
    return tuple((question, answer) for question, _, answer in split)


@cache
def load_bank(name: BankName) -> PhraseBank:
    """Read one bank of phrases."""
    content, chat, outside = _read(f"{name}.toml"), _read("chat.toml"), _read("outside.toml")
    return PhraseBank(
        name=name,
        phrases={k: _lines(v) for k, v in content.items() if isinstance(v, str)},
        words={
            kind: {value: tuple(words) for value, words in content[kind].items()}
            for kind in ("size", "place", "number", "opener")
        },
        chat=_pairs(chat[name]),
        after_picture=_pairs(chat[f"after_picture_{name}"]),
        no_picture=_pairs(chat[f"no_picture_{name}"]),
        outside=_lines(outside[name]),
        outside_requests=_pairs(outside["other"][name]),
    )


@cache
def load_replies() -> dict[str, tuple[str, ...]]:
    """Read the templates of the answers: section -> templates, the usual ones repeated."""
    return {section: _lines(block) for section, block in _read("replies.toml").items()}


@cache
def held_out_stems() -> tuple[str, ...]:
    """List the beginnings of words that no training phrase holds."""
    return tuple(stem for family in _read("held_out.toml")["words"].values() for stem in family)


@cache
def concept_notes(concept: str) -> ConceptNotes:
    """Look up what dialogues say about a concept."""
    record = _read_concepts()[concept]
    trained = trained_backgrounds(concept)
    suitable = [background for background in record["backgrounds"] if background in trained]
    return ConceptNotes(
        aliases=tuple(record["aliases"]),
        background=(suitable or trained)[0],
        fact=record["fact"],
    )


@cache
def _read_concepts() -> dict[str, Any]:
    return _read("concepts.toml")


def subject(scene: Scene) -> str:
    """Name what a scene shows and no more: ``a dog``, ``two dogs``."""
    if scene.count > 1:
        return f"{COUNT_WORDS[scene.count]} {CONCEPTS[scene.concept].plural}"
    return with_article(scene.concept)


def place_phrase(scene: Scene) -> str:
    """Say where the thing is: ``in the centre``, ``on the left``."""
    return PLACE_PHRASES.get(scene.place, "in the centre")


def answer_slots(scene: Scene) -> dict[str, str]:
    """Fill the slots that answers about a scene may use."""
    caption, thing, several = describe(scene), subject(scene), scene.count > 1
    concept = CONCEPTS[scene.concept]
    return {
        "caption": caption,
        "Caption": caption[0].upper() + caption[1:],
        "subject": thing,
        "Subject": thing[0].upper() + thing[1:],
        "counted": f"{COUNT_WORDS[scene.count]} {concept.plural if several else concept.name}",
        "here_is": "Here are" if several else "Here is",
        "this_is": "These are" if several else "This is",
        "this_is_lower": "these are" if several else "this is",
        "it_is": "They are" if several else "It is",
        "is_are": "are" if several else "is",
        "noun": concept.name,
        "colour": scene.background,
        "size": scene.size,
        "place": place_phrase(scene),
    }


def question_slots(scene: Scene) -> dict[str, str]:
    """Fill the slots that phrasings about a scene may use."""
    concept = CONCEPTS[scene.concept]
    return {
        "noun": concept.name,
        "bare": concept.name,
        "a_noun": with_article(concept.name),
        "nouns": concept.plural,
        "colour": scene.background,
        "a_colour": with_article(scene.background),
        "kind": "fruit" if concept.kind == "food" else concept.kind,
    }


def say_thing(scene: Scene, bank: PhraseBank, rng: random.Random) -> str:
    """Word what a user wants to see, without its background: ``a tiny dog at the left``."""
    if scene.count > 1:
        number = rng.choice(bank.words["number"][str(scene.count)])
        return f"{number} {CONCEPTS[scene.concept].plural}"
    noun = scene.concept
    aliases = concept_notes(scene.concept).aliases
    if aliases and rng.random() < ALIAS_PROBABILITY:
        noun = rng.choice(aliases)
    # A thing off the centre is always small, so the size may go unsaid.
    if scene.size != "medium" and (scene.place == "centre" or rng.random() < 0.5):
        noun = f"{rng.choice(bank.words['size'][scene.size])} {noun}"
    place = f" {rng.choice(bank.words['place'][scene.place])}" if scene.place != "centre" else ""
    return f"{with_article(noun)}{place}"


def as_typed(text: str, bank: PhraseBank, rng: random.Random) -> str:
    """Type a phrase like a person: tidy, in lower case, without punctuation or misspelt."""
    if rng.random() < OPENER_PROBABILITY:
        text = f"{rng.choice(bank.words['opener']['words'])} {text}"
    manner = rng.random()
    if manner < 0.45:
        text = re.sub(r"\bi\b", "I", text)
        text = text[0].upper() + text[1:]
        if text[-1].isalnum() and rng.random() < 0.5:
            text += "."
    else:
        text = text.lower()
    if manner > 0.75:
        text = text.rstrip("?.!")
        if rng.random() < 0.5:
            text = text.replace(",", "").replace("'", "")
    return _misspell(text, rng) if rng.random() < TYPO_PROBABILITY else text


def _misspell(text: str, rng: random.Random) -> str:
    """Swap two neighbouring letters inside one longer word, if there is one."""
    words = [match.span() for match in re.finditer(r"[a-z]{5,}", text)]
    if not words:
        return text
    start, end = rng.choice(words)
    at = rng.randrange(start + 1, end - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
