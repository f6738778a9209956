"""Writes one dialogue about the micro world, turn by turn."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogue_pictures import DialogueTurn, Picture, PictureIndex, scene_of
from nextgpt.world.phrase_bank import (
    PhraseBank,
    answer_slots,
    as_typed,
    concept_notes,
    load_replies,
    question_slots,
    say_thing,
)
from nextgpt.world.scenes import (
    COLOURS,
    COUNT_WORDS,
    PLACE_PHRASES,
    Place,
    Scene,
    describe,
    sample_scene,
    trained_backgrounds,
    with_article,
)

Kind = Literal["draw", "look", "chat", "multi_turn", "transform", "pair", "outside"]
"""Text to picture, picture to text, text alone, two to four turns, picture to picture, two pictures
in one reply, and wishes outside the world."""

NAMED_BACKGROUND_PROBABILITY = 0.6
NAMED_STYLE_PROBABILITY = 0.08
PICTURE_FIRST_PROBABILITY = 0.75
PICTURE_ALONE_PROBABILITY = 0.04
ALIKE_GUESS_PROBABILITY = 0.5


class DialogueWriter:
    """Writes one dialogue, remembering the picture talked about.

    Args:
        bank: what users may say.
        pictures: what may be shown.
        rng: source of randomness; the same state gives the same dialogue.
    """

    def __init__(self, bank: PhraseBank, pictures: PictureIndex, rng: random.Random) -> None:
        self.bank = bank
        self.pictures = pictures
        self.rng = rng
        self.latest: Picture | None = None
        self.latest_is_ours = False

    def write(self, kind: Kind) -> list[DialogueTurn]:
        """Write a dialogue of one kind, the user's turn first and the assistant's last."""
        return self.multi_turn() if kind == "multi_turn" else self.single_turn(kind)

    def single_turn(self, kind: Kind) -> list[DialogueTurn]:
        """Write a request and its answer."""
        match kind:
            case "draw":
                return self.draw()
            case "look":
                return self.look(self.attach())
            case "transform":
                return self.edit(self.attach(), attached=True)
            case "pair":
                return self.pair()
            case "outside":
                return self.outside()
            case _:
                return self.chat()

    def multi_turn(self) -> list[DialogueTurn]:
        """Write two to four turns that hang together."""
        kinds: tuple[Kind, ...] = ("draw", "look", "chat")
        turns = self.single_turn(self.rng.choices(kinds, (60, 22, 18))[0])
        for _ in range(self.rng.choices((1, 2, 3), (60, 30, 10))[0]):
            turns += self.follow_up()
        return turns

    def follow_up(self) -> list[DialogueTurn]:
        """Write a turn that may refer to the latest picture."""
        if self.latest is None:
            return self.single_turn(self.rng.choices(("draw", "chat"), (70, 30))[0])
        continuations = ("edit", "ask", "remark", "fact", "draw", "chat")
        remarks = 14 if self.latest_is_ours else 0
        match self.rng.choices(continuations, (46, 16, remarks, 6, 10, 8))[0]:
            case "edit":
                return self.edit(self.latest, attached=False)
            case "ask":
                return self.look(self.latest, attached=False)
            case "remark":
                return self.exchange(*self.rng.choice(self.bank.after_picture))
            case "fact":
                return self.fact(self.latest.item.concept, "fact_here")
            case "draw":
                return self.draw()
            case _:
                return self.chat()

    # Pictures asked for.

    def draw(self) -> list[DialogueTurn]:
        """Ask for a picture."""
        picture, request = self.wish()
        return self.exchange(request, *self.show("draw", picture))

    def wish(self) -> tuple[Picture, str]:
        """Think of a picture and the words that ask for it."""
        named = self.rng.random() < NAMED_BACKGROUND_PROBABILITY
        section = "draw_colour" if named and self.rng.random() < 0.35 else "draw"
        phrase = self.rng.choice(self.bank.phrases[section])
        concept = self.rng.choice(self.pictures.concepts)
        if "{scene}" not in phrase and "{thing}" not in phrase:
            named = section == "draw_colour"
            scene = Scene(concept, self.background(concept, named))
        else:
            scene = sample_scene(self.rng, concept, self.background(concept, named))
            if self.rng.random() >= NAMED_STYLE_PROBABILITY or section == "draw_colour":
                scene = replace(scene, style=None)
        slots = question_slots(scene) | {
            "thing": say_thing(scene, self.bank, self.rng),
            "scene": self.say_scene(scene, named),
        }
        return self.picture(scene, named), phrase.format(**slots)

    def background(self, concept: str, named: bool) -> str:
        """Choose a background the user names, or the concept's own."""
        if not named:
            return concept_notes(concept).background
        return self.rng.choice(self.backgrounds(concept))

    def backgrounds(self, concept: str) -> list[str]:
        """List the backgrounds this bank asks for."""
        return trained_backgrounds(concept) if self.bank.name == "train" else list(COLOURS)

    def say_scene(self, scene: Scene, background_named: bool) -> str:
        """Word a whole scene as a user would."""
        text = say_thing(scene, self.bank, self.rng)
        if background_named:
            pattern = self.rng.choice(self.bank.phrases["background"])
            slots = question_slots(scene)
            text = pattern.format(**(slots | {"thing": text}))
        if scene.style:
            pattern = self.rng.choice(self.bank.phrases["style"])
            text = pattern.format(scene=text, style=scene.style)
        return text

    def picture(self, scene: Scene, background_named: bool = True) -> Picture:
        """Find a drawn picture for a scene."""
        item = self.pictures.nearest(scene, self.rng)
        return Picture(scene, describe(scene), item, background_named)

    def show(self, section: str, *pictures: Picture) -> tuple[str | Picture, ...]:
        """Write an answer around its pictures."""
        self.latest, self.latest_is_ours = pictures[-1], True
        template = self.rng.choice(load_replies()[section])
        slots = answer_slots(pictures[0].scene)
        if len(pictures) > 1:
            second = answer_slots(pictures[1].scene)
            slots |= {f"second_{name}": value for name, value in second.items()}
            slots["second_here_is"] = second["here_is"].lower()
        texts = template.format(**slots, image="{image}").split("{image}")
        parts: list[str | Picture] = []
        for position, text in enumerate(texts):
            parts += [text.strip()] if text.strip() else []
            parts += pictures[position : position + 1]
        return tuple(parts)

    def pair(self) -> list[DialogueTurn]:
        """Ask for two pictures in one reply."""
        named = self.rng.random() < 0.5
        concepts = self.pictures.concepts
        first, second = self.rng.sample(concepts, 2) if len(concepts) > 1 else concepts * 2
        pictures, words = [], []
        for concept in (first, second):
            scene = sample_scene(self.rng, concept, self.background(concept, named))
            if self.rng.random() < 0.7:
                scene = Scene(concept, scene.background)
            scene = replace(scene, style=None)
            pictures.append(self.picture(scene, named))
            words.append(self.say_scene(scene, named))
        phrase = self.rng.choice(self.bank.phrases["pair"])
        request = phrase.format(first=words[0], second=words[1])
        return self.exchange(request, *self.show("pair", *pictures))

    def edit(self, picture: Picture, attached: bool) -> list[DialogueTurn]:
        """Ask for a picture like the given one but for one thing."""
        scene = picture.scene
        single = scene.count == 1
        edits = {
            "background": 34,
            "concept": 26 if single and len(self.pictures.concepts) > 1 else 0,
            "bigger": 8 if single and scene.size != "large" else 0,
            "smaller": 8 if single and scene.size != "small" else 0,
            "count": 9,
            "place": 9 if single else 0,
            "again": 6,
        }
        edit = self.rng.choices(list(edits), list(edits.values()))[0]
        scene = self.edited(scene, edit)
        section = "transform_again" if attached and edit == "again" else f"edit_{edit}"
        slots = question_slots(scene) | {
            "number": self.rng.choice((COUNT_WORDS[scene.count], str(scene.count))),
            "place": self.rng.choice(self.bank.words["place"][scene.place]),
        }
        request = self.rng.choice(self.bank.phrases[section]).format(**slots)
        named = picture.background_named or edit == "background"
        answer = self.show("edit", self.picture(scene, named))
        if attached:
            return self.exchange((picture, request), *answer)
        return self.exchange(request, *answer)

    def edited(self, scene: Scene, edit: str) -> Scene:
        """Change one thing about a scene."""
        choose = self.rng.choice
        match edit:
            case "background":
                others = [b for b in self.backgrounds(scene.concept) if b != scene.background]
                return replace(scene, background=choose(others))
            case "concept":
                others = [
                    concept
                    for concept in self.pictures.concepts
                    if concept != scene.concept and scene.background in self.backgrounds(concept)
                ]
                return replace(scene, concept=choose(others)) if others else scene
            case "bigger":
                return replace(scene, size="large", place="centre")
            case "smaller":
                return replace(scene, size="small")
            case "count":
                count = choose([number for number in (2, 3) if number != scene.count])
                return replace(scene, size="medium", place="centre", count=count)
            case "place":
                places: list[Place] = [p for p in PLACE_PHRASES if p != scene.place]
                return replace(scene, size="small", place=choose(places))
            case _:
                return scene

    # Pictures shown.

    def attach(self) -> Picture:
        """Take a picture of the world, as the user's."""
        item = self.rng.choice(self.pictures.items)
        scene = scene_of(item)
        self.latest, self.latest_is_ours = Picture(scene, item.caption, item), False
        return self.latest

    def look(self, picture: Picture, attached: bool = True) -> list[DialogueTurn]:
        """Ask about a picture; the answer is about the one that was drawn."""
        scene = scene_of(picture.item)
        if attached and self.rng.random() < PICTURE_ALONE_PROBABILITY:
            return self.exchange((picture,), self.answer("look_all", scene))
        question, answer = self.question_about(scene)
        if not attached:
            return self.exchange(question, answer)
        picture_first = self.rng.random() < PICTURE_FIRST_PROBABILITY
        return self.exchange((picture, question) if picture_first else (question, picture), answer)

    def question_about(self, scene: Scene) -> tuple[str, str]:
        """Write a question about a scene and its answer."""
        single = scene.count == 1
        topics = {
            "look_concept": 32,
            "look_all": 18,
            "look_colour": 16,
            "look_count": 6 if single else 25,
            "look_place": 0 if not single else 6 if scene.place == "centre" else 20,
            "look_size": 0 if scene.size == "medium" else 8,
            "look_is_it": 14 if single else 0,
            "look_is_colour": 5,
        }
        topic = self.rng.choices(list(topics), list(topics.values()))[0]
        reply = topic
        slots = question_slots(scene)
        if topic == "look_is_it":
            guess = self.guess(scene.concept)
            slots["a_guess"] = with_article(guess)
            reply = "yes_concept" if guess == scene.concept else "no_concept"
        if topic == "look_is_colour":
            guess = scene.background if self.rng.random() < 0.5 else self.rng.choice(list(COLOURS))
            slots |= {"colour_guess": guess, "a_colour_guess": with_article(guess)}
            reply = "yes_colour" if guess == scene.background else "no_colour"
        has_kind = CONCEPTS[scene.concept].kind not in ("thing", "sky")
        phrases = [
            phrase
            for phrase in self.bank.phrases[topic]
            if (single or "{noun}" not in phrase) and (has_kind or "{kind}" not in phrase)
        ]
        return self.rng.choice(phrases).format(**slots), self.answer(reply, scene)

    def guess(self, concept: str) -> str:
        """Guess at a concept: right about half the time, else often something alike."""
        if self.rng.random() < 0.45:
            return concept
        others = [other for other in CONCEPTS if other != concept]
        if self.rng.random() < ALIKE_GUESS_PROBABILITY:
            kind = CONCEPTS[concept].kind
            others = [other for other in others if CONCEPTS[other].kind == kind]
        return self.rng.choice(others)

    def answer(self, section: str, scene: Scene) -> str:
        """Fill an answer about a scene."""
        return self.rng.choice(load_replies()[section]).format(**answer_slots(scene))

    # Text alone.

    def chat(self) -> list[DialogueTurn]:
        """Ask something that needs no picture."""
        kinds = ("bank", "fact", "sum", "product", "no_picture")
        match self.rng.choices(kinds, (72, 14, 6, 4, 4 if self.latest is None else 0))[0]:
            case "fact":
                return self.fact(self.rng.choice(self.pictures.concepts), "fact")
            case "sum":
                return self.arithmetic("sum", self.rng.randint(2, 20), self.rng.randint(2, 12))
            case "product":
                return self.arithmetic("product", self.rng.randint(2, 10), self.rng.randint(2, 10))
            case "no_picture":
                return self.exchange(*self.rng.choice(self.bank.no_picture))
            case _:
                return self.exchange(*self.rng.choice(self.bank.chat))

    def fact(self, concept: str, section: str) -> list[DialogueTurn]:
        """Ask for a fact about a concept."""
        slots = question_slots(Scene(concept, concept_notes(concept).background))
        question = self.rng.choice(self.bank.phrases[section]).format(**slots)
        return self.exchange(question, concept_notes(concept).fact)

    def arithmetic(self, section: Literal["sum", "product"], a: int, b: int) -> list[DialogueTurn]:
        """Ask for a sum or a product."""
        question = self.rng.choice(self.bank.phrases[section]).format(a=a, b=b)
        result, sign = (a + b, "plus") if section == "sum" else (a * b, "times")
        return self.exchange(question, f"{a} {sign} {b} is {result}.")

    def outside(self) -> list[DialogueTurn]:
        """Wish for what cannot be had; the answer says so and holds no medium."""
        if self.rng.random() < 0.25:
            return self.exchange(*self.rng.choice(self.bank.outside_requests))
        thing = self.rng.choice(self.bank.outside)
        request = self.rng.choice(self.bank.phrases["outside"]).format(outside=thing)
        answer = self.rng.choice(load_replies()["outside"]).format(outside=thing)
        return self.exchange(request, answer)

    def exchange(
        self, request: str | tuple[str | Picture, ...], *answer: str | Picture
    ) -> list[DialogueTurn]:
        """Set a request, worded as people type, against its answer."""
        parts = (request,) if isinstance(request, str) else request
        typed = tuple(
            as_typed(part, self.bank, self.rng) if isinstance(part, str) else part for part in parts
        )
        return [DialogueTurn("user", typed), DialogueTurn("assistant", answer)]
