"""What dialogues say about pictures: wishes, changes, questions and answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogue_media import Picture, PictureIndex, Shown, is_single, scene_of, thing_of
from nextgpt.world.medium_talk import (
    CONCEPT_KINDS,
    MediumTalk,
    capitalised,
    kind_slots,
    scene_slots,
)
from nextgpt.world.phrase_bank import reply
from nextgpt.world.scenes import (
    COUNT_WORDS,
    PLACE_PHRASES,
    Place,
    Scene,
    describe,
    sample_couple,
    sample_scene,
    with_article,
)

NAMED_BACKGROUND_PROBABILITY = 0.6
NAMED_STYLE_PROBABILITY = 0.08
PLAIN_MENTION_PROBABILITY = 0.7
COUPLE_PROBABILITY = 0.2


class PictureTalk(MediumTalk[Picture]):
    """Talk about pictures."""

    modality = Modality.IMAGE
    name_slot = "scene"
    answer_section = "draw"
    index: PictureIndex

    def picture(self, scene: Scene, background_named: bool = True) -> Picture:
        """Find a drawn picture for a scene."""
        item = self.index.nearest(scene, self.rng)
        return Picture(scene, describe(scene), item, background_named)

    def shown(self, item: Item) -> Picture:
        """Take a picture of the world, as the user's."""
        return Picture(scene_of(item), item.caption, item)

    # Pictures asked for.

    def wish(self) -> tuple[Picture, str]:
        """Think of a picture and the words that ask for it alone."""
        named = self.rng.random() < NAMED_BACKGROUND_PROBABILITY
        section = "draw_colour" if named and self.rng.random() < 0.35 else "draw"
        phrase = self.rng.choice(self.bank.phrases[section])
        concept = self.rng.choice(self.index.concepts)
        if "{scene}" not in phrase and "{thing}" not in phrase:
            named = section == "draw_colour"
            scene = Scene(concept, self.background(concept, named))
        else:
            scene = sample_scene(self.rng, concept, self.background(concept, named))
            if self.index.couples and self.rng.random() < COUPLE_PROBABILITY:
                scene = sample_couple(self.rng, concept, self.bank.name == "held_out")
                named = True
            if self.rng.random() >= NAMED_STYLE_PROBABILITY or section == "draw_colour":
                scene = replace(scene, style=None)
        return self._asked_for(scene, named, phrase)

    def wish_for_couple(self) -> tuple[Picture, str]:
        """Think of a picture of two things and the words that ask for it alone."""
        phrase = self.bank.template("draw", {"scene"}, self.rng)
        concept = self.rng.choice(self.index.concepts)
        scene = sample_couple(self.rng, concept, self.bank.name == "held_out")
        return self._asked_for(replace(scene, style=None), True, phrase)

    def _asked_for(self, scene: Scene, named: bool, phrase: str) -> tuple[Picture, str]:
        slots = scene_slots(scene) | {
            "thing": self.say_thing(scene),
            "scene": self.say_scene(scene, named),
        }
        return self.picture(scene, named), phrase.format(**slots)

    def mention(self, taken: Collection[str] = ()) -> tuple[Picture, dict[str, str]]:
        """Think of a picture of a thing that is not taken, and how to call it among others."""
        named = self.rng.random() < 0.5
        concept = self.untaken(taken)
        scene = sample_scene(self.rng, concept, self.background(concept, named))
        if self.rng.random() < PLAIN_MENTION_PROBABILITY:
            scene = Scene(concept, scene.background)
        scene = replace(scene, style=None)
        return self.picture(scene, named), {"scene": self.say_scene(scene, named, joins=True)}

    def counterpart(self, shown: Shown, section: str) -> tuple[Picture, str]:
        """Think of a plain picture of the thing that a sound or a clip is about."""
        background, named = self.background_like(shown)
        scene = Scene(thing_of(shown), background)
        slots = kind_slots(scene.concept)
        return self.picture(scene, named), self.bank.phrase(section, slots, self.rng)

    def say_thing(self, scene: Scene) -> str:
        """Word what a user wants to see, without its background: ``a tiny dog at the left``."""
        if scene.second:
            first, second = (
                with_article(self.called(noun)) for noun in (scene.concept, scene.second)
            )
            return self.bank.phrase("couple", {"first": first, "second": second}, self.rng)
        if scene.count > 1:
            number = self.bank.word("number", scene.count, self.rng)
            return f"{number} {CONCEPTS[scene.concept].plural}"
        noun = self.called(scene.concept)
        # A thing off the centre is always small, so the size may go unsaid.
        if scene.size != "medium" and (scene.place == "centre" or self.rng.random() < 0.5):
            noun = f"{self.bank.word('size', scene.size, self.rng)} {noun}"
        off_centre = scene.place != "centre"
        place = f" {self.bank.word('place', scene.place, self.rng)}" if off_centre else ""
        return f"{with_article(noun)}{place}"

    def say_scene(self, scene: Scene, background_named: bool, joins: bool = False) -> str:
        """Word a whole scene as a user would."""
        return self.say_background(self.say_thing(scene), scene, background_named, joins)

    # Pictures changed.

    def edit(self, shown: Picture, attached: bool) -> tuple[Picture, str]:
        """Think of a picture like the given one but for one thing, and the words for it."""
        scene = shown.scene
        single = is_single(scene)
        edits = {
            "background": 34,
            "concept": 26 if single and len(self.index.concepts) > 1 else 0,
            "bigger": 8 if single and scene.size != "large" else 0,
            "smaller": 8 if single and scene.size != "small" else 0,
            "count": 0 if scene.second else 9,
            "place": 9 if single else 0,
            "again": 6,
        }
        edit = self.rng.choices(list(edits), list(edits.values()))[0]
        scene = self.edited(scene, edit)
        section = "transform_again" if attached and edit == "again" else f"edit_{edit}"
        slots = scene_slots(scene) | {
            "number": self.rng.choice((COUNT_WORDS[scene.count], str(scene.count))),
            "place": self.bank.word("place", scene.place, self.rng),
        }
        named = shown.background_named or edit == "background"
        return self.picture(scene, named), self.bank.phrase(section, slots, self.rng)

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
                    for concept in self.index.concepts
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

    def question(self, shown: Picture) -> tuple[str, str]:
        """Write a question about a picture and its answer; both are about the drawn one."""
        scene = scene_of(shown.item)
        single = is_single(scene)
        topics = {
            "look_concept": 32,
            "look_all": 18,
            "look_colour": 16,
            "look_count": 6 if single else 0 if scene.second else 25,
            "look_place": 0 if not single else 6 if scene.place == "centre" else 20,
            "look_size": 0 if scene.size == "medium" else 8,
            "look_is_it": 14 if single else 0,
            "look_is_colour": 5,
        }
        topic = self.rng.choices(list(topics), list(topics.values()))[0]
        answer, slots = topic, scene_slots(scene)
        if not single:
            del slots["noun"]
        if topic == "look_is_it":
            guess = self.guess(scene.concept, CONCEPT_KINDS)
            slots["a_guess"] = with_article(guess)
            answer = "yes_concept" if guess == scene.concept else "no_concept"
        if topic == "look_is_colour":
            guesses, answer = self.guess_background(scene.background)
            slots |= guesses
        question = self.bank.phrase(topic, slots, self.rng)
        return question, reply(answer, answer_slots(scene), self.rng)

    def description(self, shown: Picture) -> str:
        """Answer a picture that comes without a word."""
        return reply("look_all", answer_slots(scene_of(shown.item)), self.rng)

    def answer_slots(self, shown: Picture) -> dict[str, str]:
        """Fill the slots of the answers that come with a picture."""
        return answer_slots(shown.scene)


def answer_slots(scene: Scene) -> dict[str, str]:
    """Fill the slots that answers about a scene may use."""
    several = scene.count > 1
    concept = CONCEPTS[scene.concept]
    caption = describe(scene)
    counted = f"{COUNT_WORDS[scene.count]} {concept.plural if several else concept.name}"
    thing = counted if several else with_article(concept.name)
    if scene.second:
        thing = f"{thing} next to {with_article(scene.second)}"
    return {
        "caption": caption,
        "Caption": capitalised(caption),
        "subject": thing,
        "Subject": capitalised(thing),
        "counted": counted,
        "here_is": "Here are" if several else "Here is",
        "this_is": "These are" if several else "This is",
        "this_is_lower": "these are" if several else "this is",
        "it_is": "They are" if several else "It is",
        "is_are": "are" if several else "is",
        "noun": concept.name,
        "colour": scene.background,
        "size": scene.size,
        "place": PLACE_PHRASES.get(scene.place, "in the centre"),
    }
