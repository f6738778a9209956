"""Writes one dialogue about the micro world, turn by turn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nextgpt.modality import Modality
from nextgpt.world.clip_talk import ClipTalk
from nextgpt.world.dialogue_media import (
    DialogueMedia,
    DialogueTurn,
    Shown,
    is_single,
    thing_of,
)
from nextgpt.world.medium_talk import MediumTalk
from nextgpt.world.phrase_bank import PhraseBank, as_typed, load_replies, reply
from nextgpt.world.picture_talk import PictureTalk
from nextgpt.world.sound_talk import SoundTalk
from nextgpt.world.text_talk import SILENT, UNSEEN, TextTalk, has_fact

Kind = Literal[
    "draw",
    "sound",
    "animate",
    "look",
    "listen",
    "watch",
    "chat",
    "multi_turn",
    "several",
    "pair",
    "couple",
    "cross",
    "transform",
    "outside",
]
"""Text to picture, to sound, to clip; picture, sound, clip to text; text alone; two to four turns;
two or three media of any modalities in one reply; two pictures in one reply; one picture of two
things; a medium to one of another modality, to one of its own; and wishes outside the world."""

WISHES: Mapping[Kind, Modality] = {
    "draw": Modality.IMAGE,
    "sound": Modality.AUDIO,
    "animate": Modality.VIDEO,
}
QUESTIONS: Mapping[Kind, Modality] = {
    "look": Modality.IMAGE,
    "listen": Modality.AUDIO,
    "watch": Modality.VIDEO,
}

# How often each modality comes up where a kind leaves it open.
_SHARES = {Modality.IMAGE: 40, Modality.AUDIO: 32, Modality.VIDEO: 28}

MEDIUM_FIRST_PROBABILITY = 0.75
MEDIUM_ALONE_PROBABILITY = 0.04
THREE_MEDIA_PROBABILITY = 0.5
SAME_MODALITY_PROBABILITY = 0.2
CLAUSES_PROBABILITY = 0.6
THEN_PROBABILITY = 0.6
ATTACHED_OUTSIDE_PROBABILITY = 0.2


def possible_kinds(media: DialogueMedia) -> set[Kind]:
    """Name the kinds of dialogue there are media for."""
    needed = {**WISHES, **QUESTIONS}
    without_needs: set[Kind] = {"chat", "multi_turn", "several", "pair", "transform", "outside"}
    crossing: set[Kind] = {"cross"} if media.directions else set()
    coupling: set[Kind] = {"couple"} if media.pictures.couples else set()
    return (
        without_needs | crossing | coupling | {k for k, m in needed.items() if m in media.indices}
    )


class DialogueWriter:
    """Writes one dialogue, remembering the medium talked about.

    Args:
        bank: what users may say.
        media: what may be shown.
        rng: source of randomness; the same state gives the same dialogue.
    """

    def __init__(self, bank: PhraseBank, media: DialogueMedia, rng: random.Random) -> None:
        self.bank = bank
        self.media = media
        self.rng = rng
        self.text = TextTalk(bank, media, rng)
        kinds: tuple[type[MediumTalk[Any]], ...] = (PictureTalk, SoundTalk, ClipTalk)
        self.talks: dict[Modality, MediumTalk[Any]] = {
            talk.modality: talk(bank, media.indices[talk.modality], rng)
            for talk in kinds
            if talk.modality in media.indices
        }
        self.latest: Shown | None = None
        self.latest_is_ours = False
        self.remarked = False

    def write(self, kind: Kind) -> list[DialogueTurn]:
        """Write a dialogue of one kind, the user's turn first and the assistant's last."""
        return self.multi_turn() if kind == "multi_turn" else self.single_turn(kind)

    def single_turn(self, kind: Kind) -> list[DialogueTurn]:
        """Write a request and its answer."""
        match kind:
            case "draw" | "sound" | "animate":
                return self.wish(WISHES[kind])
            case "look" | "listen" | "watch":
                return self.ask(self.attach(QUESTIONS[kind]), attached=True)
            case "several":
                return self.several()
            case "pair":
                return self.pair()
            case "couple":
                return self.couple()
            case "cross":
                return self.cross()
            case "transform":
                return self.edit(self.attach(self.some_modality()), attached=True)
            case "outside":
                return self.outside()
            case _:
                return self.exchange(*self.text.chat(nothing_shown=self.latest is None))

    def multi_turn(self) -> list[DialogueTurn]:
        """Write two to four turns that hang together."""
        weights: dict[Kind, int] = {
            **{"draw": 30, "sound": 18, "animate": 14, "look": 11, "listen": 7, "watch": 6},
            **{"chat": 14},
        }
        turns = self.single_turn(self.some_kind(weights))
        for _ in range(self.rng.choices((1, 2, 3), (60, 30, 10))[0]):
            turns += self.follow_up()
        return turns

    def follow_up(self) -> list[DialogueTurn]:
        """Write a turn that may refer to the latest medium."""
        wishes: dict[Kind, int] = {"draw": 40, "sound": 30, "animate": 30}
        if self.latest is None:
            return self.single_turn(self.some_kind(wishes | {"chat": 30}))
        targets = self.targets(self.latest)
        continuations = {
            "edit": 38,
            "cross": 24 if targets else 0,
            "ask": 14,
            "remark": 12 if self.latest_is_ours and not self.remarked else 0,
            "fact": 5 if is_single(self.latest.scene) and has_fact(thing_of(self.latest)) else 0,
            "wish": 12,
            "chat": 7,
        }
        match self.rng.choices(list(continuations), list(continuations.values()))[0]:
            case "edit":
                return self.edit(self.latest, attached=False)
            case "cross":
                target = self.rng.choice(targets)
                return self.counterpart(self.latest, target, attached=False)
            case "ask":
                return self.ask(self.latest, attached=False)
            case "remark":
                self.remarked = True
                return self.exchange(*self.text.remark(self.latest.modality))
            case "fact":
                return self.exchange(*self.text.fact(thing_of(self.latest), "fact_here"))
            case "wish":
                return self.single_turn(self.some_kind(wishes))
            case _:
                return self.single_turn("chat")

    def some_kind(self, weights: Mapping[Kind, int]) -> Kind:
        """Choose among the kinds there are media for."""
        possible = possible_kinds(self.media)
        kinds = [kind for kind in weights if kind in possible]
        return self.rng.choices(kinds, [weights[kind] for kind in kinds])[0]

    def some_modality(self) -> Modality:
        """Choose among the modalities there are media of."""
        return self.rng.choices(list(self.talks), [_SHARES[name] for name in self.talks])[0]

    # One medium asked for, changed, or followed by one of another modality.

    def wish(self, modality: Modality) -> list[DialogueTurn]:
        """Ask for a medium."""
        talk = self.talks[modality]
        medium, request = talk.wish()
        return self.exchange(request, *self.show(talk.answer_section, medium))

    def edit(self, shown: Shown, attached: bool) -> list[DialogueTurn]:
        """Ask for a medium like the given one but for one thing."""
        medium, request = self.talks[shown.modality].edit(shown, attached)
        return self.answer_about(shown, attached, request, *self.show("edit", medium))

    def cross(self) -> list[DialogueTurn]:
        """Attach a medium and ask for one of another modality."""
        source, target = self.rng.choice(list(self.media.directions))
        thing = self.rng.choice(self.media.directions[source, target])
        return self.counterpart(self.attach(source, thing), target, attached=True)

    def counterpart(self, shown: Shown, target: Modality, attached: bool) -> list[DialogueTurn]:
        """Ask for a medium of another modality about the thing that one shows."""
        section = f"{shown.modality}_to_{target}"
        if not attached and self.rng.random() < THEN_PROBABILITY:
            section = f"then_{section}"
        talk = self.talks[target]
        medium, request = talk.counterpart(shown, section)
        answer = self.show(talk.answer_section, medium)
        return self.answer_about(shown, attached, request, *answer)

    def targets(self, shown: Shown) -> list[Modality]:
        """List the other modalities that know the thing a medium shows alone."""
        if not is_single(shown.scene):
            return []
        return [
            target
            for target, index in self.media.indices.items()
            if target != shown.modality and thing_of(shown) in index.concepts
        ]

    def show(self, section: str, medium: Shown) -> tuple[str | Shown, ...]:
        """Write an answer around its medium."""
        self.latest, self.latest_is_ours = medium, True
        template = self.rng.choice(load_replies()[section])
        slots = self.talks[medium.modality].answer_slots(medium)
        before, _, behind = template.format(**slots, medium="\n").partition("\n")
        texts = before.strip(), behind.strip()
        return tuple(part for part in (texts[0], medium, texts[1]) if part)

    # Several media asked for in one turn.

    def several(self) -> list[DialogueTurn]:
        """Ask for two or three media of any modalities in one reply."""
        count = 3 if self.rng.random() < THREE_MEDIA_PROBABILITY else 2
        modalities = list(self.talks)
        if len(modalities) == 1 or self.rng.random() < SAME_MODALITY_PROBABILITY:
            # Two pictures are a kind of their own.
            modality = self.some_modality()
            count = 3 if modality == Modality.IMAGE else count
            media, slots = self.think([modality] * count)
            words = [each[self.talks[modality].name_slot] for each in slots]
            section = f"{'three' if count == 3 else 'two'}_{modality}"
        else:
            asked = [self.some_modality() for _ in range(count)]
            while len(set(asked)) == 1:
                asked = [self.some_modality() for _ in range(count)]
            media, slots = self.think(asked)
            form = "clause" if self.rng.random() < CLAUSES_PROBABILITY else "noun"
            words = [
                self.bank.phrase(f"{form}_{medium.modality}", each, self.rng)
                for medium, each in zip(media, slots, strict=True)
            ]
            section = f"{'three' if count == 3 else 'two'}_{form}s"
        return self.exchange(self.join(section, words), *self.show_all(media))

    def pair(self) -> list[DialogueTurn]:
        """Ask for two pictures in one reply."""
        media, slots = self.think([Modality.IMAGE] * 2)
        words = [each[self.talks[Modality.IMAGE].name_slot] for each in slots]
        request = self.join("two_image", words)
        return self.exchange(request, *self.show_all(media))

    def couple(self) -> list[DialogueTurn]:
        """Ask for one picture of two things."""
        talk = self.talks[Modality.IMAGE]
        assert isinstance(talk, PictureTalk)
        picture, request = talk.wish_for_couple()
        return self.exchange(request, *self.show(talk.answer_section, picture))

    def think(self, modalities: Sequence[Modality]) -> tuple[list[Shown], list[dict[str, str]]]:
        """Think of media, each with its own thing, and of how to call them."""
        media: list[Shown] = []
        slots = []
        for modality in modalities:
            medium, words = self.talks[modality].mention([thing_of(other) for other in media])
            media.append(medium)
            slots.append(words)
        return media, slots

    def join(self, section: str, words: Sequence[str]) -> str:
        """Join what is asked for into one request, in its order."""
        slots = dict(zip(("first", "second", "third"), words, strict=False))
        return self.bank.phrase(section, slots, self.rng)

    def show_all(self, media: Sequence[Shown]) -> tuple[str | Shown, ...]:
        """Write an answer that holds several media, each behind its own sentence."""
        self.latest, self.latest_is_ours = media[-1], True
        sections = (
            ("several_first", "several_last_of_two")
            if len(media) == 2
            else ("several_first", "several_middle", "several_last_of_three")
        )
        parts: list[str | Shown] = []
        for section, medium in zip(sections, media, strict=True):
            slots = self.talks[medium.modality].answer_slots(medium)
            here_is = slots["here_is"][0].lower() + slots["here_is"][1:]
            parts += [reply(section, slots | {"here_is_lower": here_is}, self.rng), medium]
        return tuple(parts)

    # Media shown by the user, and text alone.

    def attach(self, modality: Modality, thing: str | None = None) -> Shown:
        """Take a medium of the world, or one of a single thing, as the user's."""
        shown: Shown = self.talks[modality].attach(thing)
        self.latest, self.latest_is_ours = shown, False
        return shown

    def ask(self, shown: Shown, attached: bool) -> list[DialogueTurn]:
        """Ask about a medium."""
        talk = self.talks[shown.modality]
        if attached and self.rng.random() < MEDIUM_ALONE_PROBABILITY:
            return self.exchange((shown,), talk.description(shown))
        question, answer = talk.question(shown)
        return self.answer_about(shown, attached, question, answer)

    def outside(self) -> list[DialogueTurn]:
        """Wish for what cannot be had; the answer says so and holds no medium."""
        attachable = self.refused_attachments()
        if attachable and self.rng.random() < ATTACHED_OUTSIDE_PROBABILITY:
            source, thing, target = self.rng.choice(attachable)
            shown = self.attach(source, thing)
            return self.answer_about(shown, True, *self.text.refused_counterpart(thing, target))
        return self.exchange(*self.text.outside())

    def refused_attachments(self) -> list[tuple[Modality, str, Modality]]:
        """List modality and thing of what has no counterpart, and the counterpart's modality."""
        wishes = (
            (Modality.IMAGE, SILENT, Modality.AUDIO),
            (Modality.AUDIO, UNSEEN, Modality.IMAGE),
            (Modality.AUDIO, UNSEEN, Modality.VIDEO),
        )
        return [
            (source, thing, target)
            for source, things, target in wishes
            if source in self.talks and target in self.talks
            for thing in things
            if self.media.indices[source].singles[thing]
        ]

    def answer_about(
        self, shown: Shown, attached: bool, request: str, *answer: str | Shown
    ) -> list[DialogueTurn]:
        """Set a request about a medium against its answer; the medium may come with it."""
        if not attached:
            return self.exchange(request, *answer)
        medium_first = self.rng.random() < MEDIUM_FIRST_PROBABILITY
        return self.exchange((shown, request) if medium_first else (request, shown), *answer)

    def exchange(
        self, request: str | tuple[str | Shown, ...], *answer: str | Shown
    ) -> list[DialogueTurn]:
        """Set a request, worded as people type, against its answer."""
        parts = (request,) if isinstance(request, str) else request
        typed = tuple(
            as_typed(part, self.bank, self.rng) if isinstance(part, str) else part for part in parts
        )
        return [DialogueTurn("user", typed), DialogueTurn("assistant", answer)]
