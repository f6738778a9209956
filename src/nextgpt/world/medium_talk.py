"""What dialogues say about media of one modality: the part that all modalities share."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from nextgpt.modality import Modality
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogue_media import MediaIndex, Recording, Shown, thing_of
from nextgpt.world.motions import MotionScene
from nextgpt.world.phrase_bank import PhraseBank, concept_notes, reply
from nextgpt.world.scenes import COLOURS, Scene, trained_backgrounds, with_article
from nextgpt.world.sounds import SOUNDS

ShownT = TypeVar("ShownT", bound=Shown)

SeenScene: TypeAlias = Scene | MotionScene
"""What has a background."""

CONCEPT_KINDS: Mapping[str, str] = {concept.name: concept.kind for concept in CONCEPTS.values()}

ALIAS_PROBABILITY = 0.08
RIGHT_GUESS_PROBABILITY = 0.45
ALIKE_GUESS_PROBABILITY = 0.5


class MediumTalk(ABC, Generic[ShownT]):
    """Thinks of media of one modality, and words the wishes, questions and answers about them.

    Args:
        bank: what users may say.
        index: what may be shown.
        rng: source of randomness, shared by a whole dialogue.
    """

    modality: ClassVar[Modality]
    name_slot: ClassVar[str]
    """The slot that a mention always fills: words for the whole scene, without a verb before."""
    answer_section: ClassVar[str]
    """Section of the answers that come with a medium."""

    def __init__(self, bank: PhraseBank, index: MediaIndex[Any], rng: random.Random) -> None:
        self.bank = bank
        self.index = index
        self.rng = rng

    @abstractmethod
    def mention(self, taken: Collection[str] = ()) -> tuple[ShownT, dict[str, str]]:
        """Think of a medium of a thing that is not taken, and how to call it among others.

        Returns:
            The medium, and the slots of the clauses that ask for it.
        """

    @abstractmethod
    def wish(self) -> tuple[ShownT, str]:
        """Think of a medium and the words that ask for it alone."""

    @abstractmethod
    def counterpart(self, shown: Shown, section: str) -> tuple[ShownT, str]:
        """Think of a medium about the thing that one of another modality shows.

        Args:
            shown: a medium of a single thing.
            section: of the phrases that ask for it.
        """

    @abstractmethod
    def shown(self, item: Any) -> ShownT:
        """Take a medium of the world, as the user's."""

    @abstractmethod
    def edit(self, shown: ShownT, attached: bool) -> tuple[ShownT, str]:
        """Think of a medium like the given one but for one thing, and the words for it."""

    @abstractmethod
    def question(self, shown: ShownT) -> tuple[str, str]:
        """Write a question about a medium and its answer."""

    @abstractmethod
    def description(self, shown: ShownT) -> str:
        """Answer a medium that comes without a word."""

    @abstractmethod
    def answer_slots(self, shown: ShownT) -> dict[str, str]:
        """Fill the slots of the answers that come with a medium."""

    def answer(self, section: str, shown: ShownT) -> str:
        """Fill an answer about a medium."""
        return reply(section, self.answer_slots(shown), self.rng)

    def attach(self, concept: str | None = None) -> ShownT:
        """Take any medium of the world as the user's, or one of a single thing."""
        items = self.index.items if concept is None else self.index.singles[concept]
        return self.shown(self.rng.choice(items))

    def untaken(self, taken: Collection[str]) -> str:
        """Choose a thing that is not taken, if there is another."""
        free = [name for name in self.index.concepts if name not in taken]
        return self.rng.choice(free or self.index.concepts)

    def backgrounds(self, concept: str) -> list[str]:
        """List the backgrounds this bank asks for."""
        return trained_backgrounds(concept) if self.bank.name == "train" else list(COLOURS)

    def background(self, concept: str, named: bool) -> str:
        """Choose a background the user names, or the concept's own."""
        if not named:
            return concept_notes(concept).background
        return self.rng.choice(self.backgrounds(concept))

    def background_like(self, shown: Shown) -> tuple[str, bool]:
        """Return the background of a medium, or the concept's own where none is seen."""
        if isinstance(shown, Recording):
            return concept_notes(thing_of(shown)).background, False
        return shown.scene.background, shown.background_named

    def called(self, noun: str) -> str:
        """Name a thing, now and then by another name that users have for it."""
        aliases = concept_notes(noun).aliases if noun in CONCEPTS else ()
        if aliases and self.rng.random() < ALIAS_PROBABILITY:
            return self.rng.choice(aliases)
        return noun

    def say_background(self, text: str, scene: SeenScene, named: bool, joins: bool = False) -> str:
        """Add background and style to the words for what a scene shows, as a user would.

        Args:
            text: what is shown.
            scene: has the background and the style.
            named: whether the user names the background.
            joins: whether more words of the sentence follow.
        """
        if named:
            slots = colour_slots(scene.background) | {"thing": text}
            section = "background_joined" if joins else "background"
            text = self.bank.phrase(section, slots, self.rng)
        if scene.style:
            text = self.bank.phrase("style", {"scene": text, "style": scene.style}, self.rng)
        return text

    def guess_background(self, right: str) -> tuple[dict[str, str], str]:
        """Guess at a background; returns the slots of the question and the answer's section."""
        guess = right if self.rng.random() < 0.5 else self.rng.choice(list(COLOURS))
        slots = {"colour_guess": guess, "a_colour_guess": with_article(guess)}
        return slots, "yes_colour" if guess == right else "no_colour"

    def guess(self, right: str, kinds: Mapping[str, str]) -> str:
        """Guess at a thing: right about half the time, else often something alike.

        Args:
            right: what it is.
            kinds: everything it may be -> what sort of thing that is.
        """
        if self.rng.random() < RIGHT_GUESS_PROBABILITY:
            return right
        others = [other for other in kinds if other != right]
        if self.rng.random() < ALIKE_GUESS_PROBABILITY:
            others = [other for other in others if kinds[other] == kinds[right]]
        return self.rng.choice(others)


def capitalised(text: str) -> str:
    """Write the first letter large."""
    return text[0].upper() + text[1:]


def kind_slots(concept: str) -> dict[str, str]:
    """Fill the slots that say what sort of thing a concept is, without its name."""
    kind: str = CONCEPTS[concept].kind if concept in CONCEPTS else SOUNDS[concept].kind
    if kind in ("thing", "sky", "effect"):
        return {}
    slots = {"kind": "fruit" if kind == "food" else kind}
    return slots | ({f"the_{kind}": kind} if kind in ("animal", "instrument") else {})


def scene_slots(scene: SeenScene) -> dict[str, str]:
    """Fill the slots that phrasings about a scene may use."""
    concept = CONCEPTS[scene.concept]
    return {
        "noun": concept.name,
        "bare": concept.name,
        "a_noun": with_article(concept.name),
        "nouns": concept.plural,
        **colour_slots(scene.background),
        **kind_slots(concept.name),
    }


def colour_slots(background: str) -> dict[str, str]:
    """Fill the slots that name a background."""
    return {"colour": background, "a_colour": with_article(background)}
