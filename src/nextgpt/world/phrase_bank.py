"""The phrases of the dialogues, read from the ``phrases`` folder, and how people type them.

``train*.toml`` and ``held_out*.toml`` hold the users' phrasings under the same section names, so
that the two banks are interchangeable; the answers in ``replies.toml`` belong to both.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any, Literal, Self

from nextgpt.modality import Modality
from nextgpt.world.scenes import trained_backgrounds

BankName = Literal["train", "held_out"]
QuestionAndAnswer = tuple[str, str]

TYPO_PROBABILITY = 0.04
OPENER_PROBABILITY = 0.05

WISH_SECTIONS = {"draw": Modality.IMAGE, "sound": Modality.AUDIO, "animate": Modality.VIDEO}
"""Sections of the wishes for one medium."""
THING_SLOTS: Mapping[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("scene",),
    Modality.AUDIO: ("sound", "source"),
    Modality.VIDEO: ("clip",),
}
"""Slots of the wishes that anything may stand in, whether the world holds it or not."""
NUM_REPEATED = 4

_SYLLABLE = (
    ("b", "bl", "br", "ch", "cl", "d", "dr", "f", "fl", "g", "gl", "h", "j", "k", "m", "n", "p")
    + ("pl", "pr", "qu", "r", "s", "sh", "sk", "sm", "sn", "sp", "st", "t", "th", "tr", "w", "z"),
    ("a", "e", "i", "o", "u", "oo", "ee", "ou", "oi", "ai"),
    ("b", "ck", "dd", "ft", "g", "lk", "ll", "lm", "mb", "n", "nd", "ng", "nk", "p", "rb", "rd")
    + ("rk", "rm", "rp", "rt", "sk", "sp", "ss", "st", "t", "tch", "x"),
    ("", "", "", "", "er", "le", "ify"),
)
"""Beginning, vowel, end and ending of a made-up verb."""

_BANK_PARTS = ("", "_sounds", "_clips", "_mixed")


@dataclass(frozen=True)
class ConceptNotes:
    """What dialogues say about a concept besides its name."""

    aliases: tuple[str, ...]
    """Other names users have for it; answers always use the concept's own."""
    background: str
    """Background of its media when the user names none; never one kept from training."""
    motion: str
    """What it does in a clip when the user does not say."""
    fact: str
    """One true sentence."""


@dataclass(frozen=True)
class SoundNotes:
    """What dialogues say about a sound besides its caption."""

    source: str
    """What makes it, with the article: ``a dog``, ``the sea``."""
    plural: str | None
    """Several of what makes it; None for what has no plural."""
    wordings: tuple[str, ...]
    """How users say it when they want to hear it: ``a barking dog``."""
    fact: str | None
    """One true sentence about what makes it; None for what has no plural."""


@dataclass(frozen=True)
class PhraseBank:
    """Everything users may say, from one of the two banks."""

    name: BankName
    phrases: dict[str, tuple[str, ...]]
    """Section -> phrasings with slots."""
    words: dict[str, dict[str, tuple[str, ...]]]
    """"size", "place", "motion", "register" and so on -> value -> the words users have for it."""
    chat: tuple[QuestionAndAnswer, ...]
    """Plain questions; no medium is asked for."""
    after_medium: tuple[QuestionAndAnswer, ...]
    """Remarks that follow any medium; no medium is asked for, here and in the next three."""
    after_picture: tuple[QuestionAndAnswer, ...]
    after_sound: tuple[QuestionAndAnswer, ...]
    after_clip: tuple[QuestionAndAnswer, ...]
    no_medium: tuple[QuestionAndAnswer, ...]
    """Questions about a medium and edits of one where none was shown."""
    outside: tuple[str, ...]
    """Things the world does not hold."""
    outside_sounds: tuple[str, ...]
    """Things the world cannot let hear."""
    outside_clips: tuple[str, ...]
    """What no clip of the world shows."""
    outside_requests: tuple[QuestionAndAnswer, ...]
    """Wishes other than media that cannot be granted."""

    def granting(self, captions: Iterable[str]) -> Self:
        """Copy this bank without the things outside the world that captions name."""
        named = set().union(*map(_telling_words, captions))

        def left(things: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(thing for thing in things if not named & _telling_words(thing))

        return replace(
            self,
            outside=left(self.outside),
            outside_sounds=left(self.outside_sounds),
            outside_clips=left(self.outside_clips),
        )

    def template(self, section: str, slots: Collection[str], rng: random.Random) -> str:
        """Draw a phrase of a section whose slots are all among those at hand."""
        at_hand = set(slots)
        return rng.choice(
            [phrase for phrase in self.phrases[section] if slots_of(phrase) <= at_hand]
        )

    def phrase(self, section: str, slots: Mapping[str, str], rng: random.Random) -> str:
        """Draw a phrase of a section whose slots are all at hand, and fill them."""
        return self.template(section, slots, rng).format(**slots)

    def wish(self, modality: Modality, thing: str, rng: random.Random) -> str:
        """Draw a wish for one medium, of a thing in plain words."""
        [section] = [name for name, asked in WISH_SECTIONS.items() if asked == modality]
        return self.phrase(section, dict.fromkeys(THING_SLOTS[modality], thing), rng)

    def word(self, kind: str, value: str | int, rng: random.Random) -> str:
        """Draw one of the words users have for a value."""
        return rng.choice(self.words[kind][str(value)])


@cache
def slots_of(phrase: str) -> frozenset[str]:
    """Name the slots of a phrase."""
    return frozenset(name for _, name, _, _ in Formatter().parse(phrase) if name)


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
    content: dict[str, Any] = {}
    for part in _BANK_PARTS:
        content |= _read(f"{name}{part}.toml")
    content.pop("words", None)
    _add_framed_wishes(content)
    chat, outside = _read("chat.toml"), _read("outside.toml")
    return PhraseBank(
        name=name,
        phrases={k: _lines(v) for k, v in content.items() if isinstance(v, str)},
        words={
            kind: {value: tuple(words) for value, words in by_value.items()}
            for kind, by_value in content.items()
            if isinstance(by_value, dict)
        },
        chat=_pairs(chat[name]),
        after_medium=_pairs(chat[f"after_medium_{name}"]),
        after_picture=_pairs(chat[f"after_picture_{name}"]),
        after_sound=_pairs(chat[f"after_sound_{name}"]),
        after_clip=_pairs(chat[f"after_clip_{name}"]),
        no_medium=_pairs(chat[f"no_medium_{name}"]),
        outside=_lines(outside[name]),
        outside_sounds=_lines(outside["sounds"][name]),
        outside_clips=_lines(outside["clips"][name]),
        outside_requests=_pairs(outside["other"][name]),
    )


def _telling_words(text: str) -> set[str]:
    """Words that tell what a text is about, more or less: the longer ones."""
    return set(re.findall(r"[a-z]{3,}", text.lower())) - {"the", "and", "with"}


def _add_framed_wishes(content: dict[str, Any]) -> None:
    """Put every clause and noun for a medium into every frame of a bank, if it has frames.

    The wishes that stand by themselves are repeated, so that they stay about as frequent.
    """
    frames = content.pop("frames", {})
    for section, modality in WISH_SECTIONS.items() if frames else ():
        framed = [
            frame.replace("{it}", thing)
            for form, block in frames.items()
            for thing in dict.fromkeys(_lines(content[f"{form}_{modality}"]))
            for frame in _lines(block)
        ]
        content[section] = "\n".join([content[section]] * NUM_REPEATED + framed)


@cache
def load_replies() -> dict[str, tuple[str, ...]]:
    """Read the templates of the answers: section -> templates, the usual ones repeated."""
    return {section: _lines(block) for section, block in _read("replies.toml").items()}


def reply(section: str, slots: Mapping[str, str], rng: random.Random) -> str:
    """Draw an answer and fill its slots."""
    return rng.choice(load_replies()[section]).format(**slots)


@cache
def held_out_stems() -> tuple[str, ...]:
    """List the beginnings of words that no training phrase holds."""
    return tuple(stem for family in _read("held_out.toml")["words"].values() for stem in family)


@cache
def concept_notes(concept: str) -> ConceptNotes:
    """Look up what dialogues say about a concept."""
    record = _read_once("concepts.toml")[concept]
    trained = trained_backgrounds(concept)
    suitable = [background for background in record["backgrounds"] if background in trained]
    return ConceptNotes(
        aliases=tuple(record["aliases"]),
        background=(suitable or trained)[0],
        motion=record["motion"],
        fact=record["fact"],
    )


@cache
def sound_notes(sound: str) -> SoundNotes:
    """Look up what dialogues say about a sound."""
    record = _read_once("sounds.toml")[sound]
    return SoundNotes(
        source=record["source"],
        plural=record.get("plural"),
        wordings=tuple(record["wordings"]),
        fact=record.get("fact"),
    )


@cache
def _read_once(name: str) -> dict[str, Any]:
    return _read(name)


def as_typed(text: str, bank: PhraseBank, rng: random.Random) -> str:
    """Type a phrase like a person: tidy, in lower case, without punctuation or misspelt."""
    text = re.sub("~", lambda _: made_up_verb(rng), text)
    if rng.random() < OPENER_PROBABILITY:
        text = f"{bank.word('opener', 'words', rng)} {text}"
    manner = rng.random()
    if manner < 0.45:
        text = re.sub(r"\bi\b", "I", text)
        text = re.sub(r"(?:^|[.!?] )[a-z]", lambda found: found[0].upper(), text)
        if text[-1].isalnum() and rng.random() < 0.5:
            text += "."
    else:
        text = text.lower()
    if manner > 0.75:
        text = text.rstrip("?.!")
        if rng.random() < 0.5:
            text = text.replace(",", "").replace("'", "")
    return _misspell(text, rng) if rng.random() < TYPO_PROBABILITY else text


def made_up_verb(rng: random.Random) -> str:
    """Make up a word that sounds like an English verb: ``snorb``, ``plinder``."""
    while True:
        onset, vowel, coda, ending = (rng.choice(sounds) for sounds in _SYLLABLE)
        word = f"{onset}{vowel}{coda}{ending}"
        if not word.startswith(held_out_stems()):
            return word


def _misspell(text: str, rng: random.Random) -> str:
    """Swap two neighbouring letters inside one longer word, if there is one."""
    words = [match.span() for match in re.finditer(r"[a-z]{5,}", text)]
    if not words:
        return text
    start, end = rng.choice(words)
    at = rng.randrange(start + 1, end - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
