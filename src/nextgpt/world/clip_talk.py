"""What dialogues say about clips: wishes, changes, questions and answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.world.concepts import STYLES
from nextgpt.world.dialogue_media import Clip, Shown, motion_scene_of, thing_of
from nextgpt.world.medium_talk import (
    CONCEPT_KINDS,
    MediumTalk,
    capitalised,
    kind_slots,
    scene_slots,
)
from nextgpt.world.motions import (
    LOOPS,
    MOTIONS,
    OWN,
    MotionScene,
    describe_motion,
    motion_phrase,
)
from nextgpt.world.phrase_bank import concept_notes, reply
from nextgpt.world.scenes import with_article

NAMED_MOTION_PROBABILITY = 0.75
NAMED_BACKGROUND_PROBABILITY = 0.4
NAMED_STYLE_PROBABILITY = 0.06
OWN_MOTION_PROBABILITY = 0.3
"""Share of an artist's own motion among the motions named of a thing that has one."""

_WAYS = {
    "left": "left or right",
    "right": "left or right",
    "up": "up or down",
    "down": "up or down",
}


class ClipTalk(MediumTalk[Clip]):
    """Talk about clips."""

    modality = Modality.VIDEO
    name_slot = "clip"
    answer_section = "animate"

    def clip(self, scene: MotionScene, background_named: bool = True) -> Clip:
        """Find a clip of the world for a scene."""
        item = self.index.nearest(scene, self.rng)
        return Clip(scene, describe_motion(scene), item, background_named)

    def shown(self, item: Item) -> Clip:
        """Take a clip of the world, as the user's."""
        return Clip(motion_scene_of(item), item.caption, item)

    # Clips asked for.

    def wish(self) -> tuple[Clip, str]:
        """Think of a clip and the words that ask for it alone."""
        clip, slots = self.think(self.rng.choice(self.index.concepts), joins=False)
        return clip, self.bank.phrase("animate", slots, self.rng)

    def mention(self, taken: Collection[str] = ()) -> tuple[Clip, dict[str, str]]:
        """Think of a clip of a thing that is not taken, and how to call it among others."""
        return self.think(self.untaken(taken), joins=True)

    def think(self, concept: str, joins: bool) -> tuple[Clip, dict[str, str]]:
        """Think of what exactly a thing does in a clip, and of the words for it.

        Args:
            concept: the thing.
            joins: whether more words of the sentence follow.
        """
        background_named = self.rng.random() < NAMED_BACKGROUND_PROBABILITY
        motion_named = self.rng.random() < NAMED_MOTION_PROBABILITY
        motion = self.some_motion(concept) if motion_named else concept_notes(concept).motion
        scene = MotionScene(concept, self.background(concept, background_named), motion)
        if motion in MOTIONS and self.rng.random() < NAMED_STYLE_PROBABILITY:
            scene = replace(scene, style=self.rng.choice(list(STYLES)))
        noun = with_article(self.called(concept))
        if not motion_named:
            slots = {"clip": self.say_background(noun, scene, background_named, joins)}
            return self.clip(scene, background_named), slots
        text = f"{noun} {self.participle(scene)}"
        moving = self.say_background(text, scene, background_named, joins)
        slots = {"clip": moving, "moving": moving}
        if motion in MOTIONS and not scene.style:
            slots |= {
                "still": self.say_background(noun, scene, background_named, joins=True),
                "verb": self.bank.word("motion_verb", motion, self.rng),
            }
        return self.clip(scene, background_named), slots

    def counterpart(self, shown: Shown, section: str) -> tuple[Clip, str]:
        """Think of a clip of the thing that a picture or a sound is about."""
        concept = thing_of(shown)
        background, named = self.background_like(shown)
        motion = self.rng.choice(list(MOTIONS))
        slots = kind_slots(concept) | {
            "verb": self.bank.word("motion_verb", motion, self.rng),
            "motion": self.bank.word("motion", motion, self.rng),
        }
        template = self.bank.template(section, slots, self.rng)
        if "{verb}" not in template and "{motion}" not in template:
            motion = concept_notes(concept).motion
        clip = self.clip(MotionScene(concept, background, motion), named)
        return clip, template.format(**slots)

    def some_motion(self, concept: str) -> str:
        """Choose a motion to ask of a thing."""
        if concept in LOOPS[OWN] and self.rng.random() < OWN_MOTION_PROBABILITY:
            return OWN
        return self.rng.choice(list(MOTIONS))

    def participle(self, scene: MotionScene) -> str:
        """Word a motion as a user would: ``flying up``."""
        if scene.motion not in MOTIONS:
            return motion_phrase(scene)
        return self.bank.word("motion", scene.motion, self.rng)

    # Clips changed.

    def edit(self, shown: Clip, attached: bool) -> tuple[Clip, str]:
        """Think of a clip like the given one but for one thing, and the words for it."""
        edits = {"clip_motion": 44, "clip_background": 26, "clip_concept": 22, "clip_again": 8}
        others = self.others_like(shown.scene)
        if not others:
            del edits["clip_concept"]
        edit = self.rng.choices(list(edits), list(edits.values()))[0]
        scene = shown.scene
        match edit:
            case "clip_motion":
                motion = self.some_motion(scene.concept)
                while motion == scene.motion:
                    motion = self.some_motion(scene.concept)
                style = scene.style if motion in MOTIONS else None
                scene = replace(scene, motion=motion, style=style)
            case "clip_background":
                backgrounds = [
                    background
                    for background in self.backgrounds(scene.concept)
                    if background != scene.background
                ]
                scene = replace(scene, background=self.rng.choice(backgrounds))
            case "clip_concept":
                scene = replace(scene, concept=self.rng.choice(others))
        slots = scene_slots(scene) | {"motion": self.participle(scene)}
        if scene.motion in MOTIONS:
            slots["verb"] = self.bank.word("motion_verb", scene.motion, self.rng)
        section = "clip_transform_again" if attached and edit == "clip_again" else edit
        named = shown.background_named or edit == "clip_background"
        return self.clip(scene, named), self.bank.phrase(section, slots, self.rng)

    def others_like(self, scene: MotionScene) -> list[str]:
        """List the things that could take the place of a scene's own; none for an own motion."""
        return [
            concept
            for concept in self.index.concepts
            if concept != scene.concept
            and scene.motion in MOTIONS
            and scene.background in self.backgrounds(concept)
        ]

    # Clips watched.

    def question(self, shown: Clip) -> tuple[str, str]:
        """Write a question about a clip and its answer; both are about the one shown."""
        scene = motion_scene_of(shown.item)
        topics = {
            "watch_concept": 26,
            "watch_all": 24,
            "watch_way": 16 if scene.motion in _WAYS else 0,
            "watch_motion": 18,
            "watch_is_motion": 10,
            "watch_is_it": 8,
            "look_colour": 10,
            "look_is_colour": 3,
        }
        topic = self.rng.choices(list(topics), list(topics.values()))[0]
        answer, slots = topic, scene_slots(scene)
        if scene.motion in _WAYS:
            slots["left_or_right"] = _WAYS[scene.motion]
        if topic == "watch_way":
            answer = "watch_motion"
        if topic == "watch_is_it":
            guess = self.guess(scene.concept, CONCEPT_KINDS)
            slots["a_guess"] = with_article(guess)
            answer = "yes_concept" if guess == scene.concept else "no_concept"
        if topic == "watch_is_motion":
            right = self.rng.random() < 0.5 and scene.motion in MOTIONS
            others = [motion for motion in MOTIONS if MOTIONS[motion] != motion_phrase(scene)]
            guess = scene.motion if right else self.rng.choice(others)
            slots["motion_guess"] = self.bank.word("motion", guess, self.rng)
            answer = "yes_motion" if right else "no_motion"
        if topic == "look_is_colour":
            guesses, answer = self.guess_background(scene.background)
            slots |= guesses
        return self.bank.phrase(topic, slots, self.rng), reply(answer, seen(scene), self.rng)

    def description(self, shown: Clip) -> str:
        """Answer a clip that comes without a word."""
        return reply("watch_all", seen(motion_scene_of(shown.item)), self.rng)

    def answer_slots(self, shown: Clip) -> dict[str, str]:
        """Fill the slots of the answers that come with a clip."""
        return seen(shown.scene)


def seen(scene: MotionScene) -> dict[str, str]:
    """Fill the slots that answers about a clip may use."""
    caption, thing = describe_motion(scene), with_article(scene.concept)
    return {
        "caption": caption,
        "Caption": capitalised(caption),
        "subject": thing,
        "Subject": capitalised(thing),
        "here_is": "Here is",
        "this_is": "This is",
        "this_is_lower": "this is",
        "it_is": "It is",
        "noun": scene.concept,
        "colour": scene.background,
        "motion": motion_phrase(scene),
    }
