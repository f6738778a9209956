"""What dialogues say without a medium: plain questions, facts, sums, and wishes refused."""

from __future__ import annotations

import random
from typing import Literal

from nextgpt.modality import Modality
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogue_media import DialogueMedia
from nextgpt.world.medium_talk import kind_slots
from nextgpt.world.phrase_bank import (
    PhraseBank,
    QuestionAndAnswer,
    concept_notes,
    reply,
    sound_notes,
)
from nextgpt.world.scenes import with_article
from nextgpt.world.sounds import SOUNDS

SILENT: tuple[str, ...] = tuple(name for name in CONCEPTS if name not in SOUNDS)
"""Things known by their look alone."""
UNSEEN: tuple[str, ...] = tuple(name for name in SOUNDS if name not in CONCEPTS)
"""Things known by their sound alone."""


class TextTalk:
    """Words questions, wishes and answers that hold no medium.

    Args:
        bank: what users may say.
        media: what other dialogues may show.
        rng: source of randomness, shared by a whole dialogue.
    """

    def __init__(self, bank: PhraseBank, media: DialogueMedia, rng: random.Random) -> None:
        self.bank = bank
        self.media = media
        self.rng = rng

    def chat(self, nothing_shown: bool) -> QuestionAndAnswer:
        """Write a question that needs no medium, and its answer.

        Args:
            nothing_shown: whether the dialogue has no medium that a question could mean.
        """
        kinds = ("bank", "fact", "sum", "product", "no_medium")
        match self.rng.choices(kinds, (72, 14, 5, 3, 6 if nothing_shown else 0))[0]:
            case "fact":
                things = [*self.media.pictures.concepts, *self.media.recordings.concepts]
                about = [thing for thing in things if has_fact(thing)]
                return self.fact(self.rng.choice(about), "fact")
            case "sum":
                return self.arithmetic("sum", self.rng.randint(2, 20), self.rng.randint(2, 12))
            case "product":
                return self.arithmetic("product", self.rng.randint(2, 10), self.rng.randint(2, 10))
            case "no_medium":
                return self.rng.choice(self.bank.no_medium)
            case _:
                return self.rng.choice(self.bank.chat)

    def fact(self, thing: str, section: str) -> QuestionAndAnswer:
        """Write a question for a fact about a thing that has one, and the fact."""
        fact, plural = _fact_and_plural(thing)
        assert fact is not None and plural is not None, f"{thing} has no fact"
        slots = {"a_noun": with_article(thing), "nouns": plural}
        return self.bank.phrase(section, slots, self.rng), fact

    def arithmetic(self, section: Literal["sum", "product"], a: int, b: int) -> QuestionAndAnswer:
        """Write a sum or a product to work out, and its result."""
        question = self.bank.phrase(section, {"a": str(a), "b": str(b)}, self.rng)
        result, sign = (a + b, "plus") if section == "sum" else (a * b, "times")
        return question, f"{a} {sign} {b} is {result}."

    def remark(self, modality: Modality) -> QuestionAndAnswer:
        """Write a remark on a medium of the assistant's, and the answer."""
        own = {
            Modality.IMAGE: self.bank.after_picture,
            Modality.AUDIO: self.bank.after_sound,
            Modality.VIDEO: self.bank.after_clip,
        }
        return self.rng.choice((*self.bank.after_medium, *own[modality]))

    # Wishes refused.

    def outside(self) -> QuestionAndAnswer:
        """Write a wish for what the world does not hold, and the refusal."""
        wishes = ("request", "picture", "sound", "clip", "silent", "unseen")
        match self.rng.choices(wishes, (16, 30, 18, 24, 6, 6))[0]:
            case "request":
                return self.rng.choice(self.bank.outside_requests)
            case "picture":
                thing = self.rng.choice(self.bank.outside)
                section = self.rng.choice(("outside", "draw"))
                return self.refused(section, "outside", thing, "outside", "scene")
            case "sound":
                things = self.rng.choice((self.bank.outside_sounds, self.bank.outside))
                thing = self.rng.choice(things)
                return self.refused("sound", "outside_sound", thing, "sound", "source")
            case "clip":
                things = self.rng.choice((self.bank.outside_clips, self.bank.outside))
                return self.refused("animate", "outside_clip", self.rng.choice(things), "clip")
            case "silent":
                thing = with_article(self.rng.choice(SILENT))
                return self.refused("sound", "silent", thing, "source")
            case _:
                thing = sound_notes(self.rng.choice(UNSEEN)).source
                if self.rng.random() < 0.3:
                    return self.refused("animate", "outside_clip", thing, "clip")
                return self.refused("draw", "outside", thing, "scene")

    def refused(self, section: str, answer: str, thing: str, *slots: str) -> QuestionAndAnswer:
        """Wish for a thing with a phrase of a section that has these slots, and refuse it."""
        question = self.bank.phrase(section, dict.fromkeys(slots, thing), self.rng)
        return question, reply(answer, {"outside": thing}, self.rng)

    def refused_counterpart(self, thing: str, target: Modality) -> QuestionAndAnswer:
        """Wish for the sound of a silent thing attached, or the look of an unseen one heard."""
        source = Modality.IMAGE if target == Modality.AUDIO else Modality.AUDIO
        question = self.bank.phrase(f"{source}_to_{target}", kind_slots(thing), self.rng)
        if target == Modality.AUDIO:
            return question, reply("silent", {"outside": with_article(thing)}, self.rng)
        answer = "outside" if target == Modality.IMAGE else "outside_clip"
        return question, reply(answer, {"outside": sound_notes(thing).source}, self.rng)


def _fact_and_plural(thing: str) -> tuple[str | None, str | None]:
    if thing in CONCEPTS:
        return concept_notes(thing).fact, CONCEPTS[thing].plural
    return sound_notes(thing).fact, sound_notes(thing).plural


def has_fact(thing: str) -> bool:
    """Tell whether a sentence is known about a thing."""
    return _fact_and_plural(thing)[0] is not None
