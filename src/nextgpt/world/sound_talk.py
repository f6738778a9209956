"""What dialogues say about sounds: wishes, changes, questions and answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import get_args

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogue_media import Recording, Shown, sound_scene_of, thing_of
from nextgpt.world.medium_talk import MediumTalk, capitalised, kind_slots
from nextgpt.world.phrase_bank import reply, sound_notes
from nextgpt.world.scenes import with_article
from nextgpt.world.sounds import (
    INSTRUMENTS,
    NOTE_COUNTS,
    PITCHED,
    SOUNDS,
    SPEED_WORDS,
    Contour,
    Register,
    SoundScene,
    describe_sound,
    is_held_out_sound,
    sample_sound,
)

DEFAULT_COUNT = 3
"""Notes of an instrument when the user names no number."""

PLAIN_WISH_PROBABILITY = 0.4
PLAIN_MENTION_PROBABILITY = 0.65
NAMED_COUNT_PROBABILITY = 0.65
ADVERB_PROBABILITY = 0.5
REGISTER_BEFORE_NAME_PROBABILITY = 0.4

_KINDS: Mapping[str, str] = {sound.name: sound.kind for sound in SOUNDS.values()}
_OPPOSITES = {"low": "high", "high": "low", "slow": "fast", "fast": "slow"}
_EDIT_WEIGHTS = {
    "sound_register": 24,
    "sound_contour": 18,
    "sound_count": 14,
    "sound_speed": 12,
    "sound_instrument": 24,
    "sound_source": 20,
    "sound_again": 8,
}


class SoundTalk(MediumTalk[Recording]):
    """Talk about sounds."""

    modality = Modality.AUDIO
    name_slot = "sound"
    answer_section = "sound"

    def recording(self, scene: SoundScene) -> Recording:
        """Find a sound of the world for a scene."""
        return Recording(scene, describe_sound(scene), self.index.nearest(scene, self.rng))

    def shown(self, item: Item) -> Recording:
        """Take a sound of the world, as the user's."""
        return Recording(sound_scene_of(item), item.caption, item)

    def is_asked_for(self, scene: SoundScene) -> bool:
        """Tell whether this bank asks for a sound."""
        return self.bank.name != "train" or not is_held_out_sound(scene)

    # Sounds asked for.

    def wish(self) -> tuple[Recording, str]:
        """Think of a sound and the words that ask for it alone."""
        recording, slots = self.think(self.rng.choice(self.index.concepts), PLAIN_WISH_PROBABILITY)
        return recording, self.bank.phrase("sound", slots, self.rng)

    def mention(self, taken: Collection[str] = ()) -> tuple[Recording, dict[str, str]]:
        """Think of a sound of a thing that is not taken, and how to call it among others."""
        return self.think(self.untaken(taken), PLAIN_MENTION_PROBABILITY)

    def counterpart(self, shown: Shown, section: str) -> tuple[Recording, str]:
        """Think of the plain sound of the thing that a picture or a clip shows."""
        thing = thing_of(shown)
        return self.recording(plain(thing)), self.bank.phrase(section, kind_slots(thing), self.rng)

    def think(self, sound: str, plain_probability: float) -> tuple[Recording, dict[str, str]]:
        """Think of what exactly to hear of a sound, and of the words for it."""
        notes, player = sound_notes(sound), with_article(self.called(sound))
        if sound not in INSTRUMENTS:
            source = player if sound in CONCEPTS else notes.source
            slots = source_slots(sound, source) | {"sound": self.rng.choice(notes.wordings)}
            return self.recording(plain(sound)), slots
        if self.rng.random() < plain_probability:
            return self.recording(plain(sound)), source_slots(sound, player) | {"sound": player}
        scene = sample_sound(self.rng, sound)
        while not self.is_asked_for(scene):
            scene = sample_sound(self.rng, sound)
        if scene.second is not None:
            slots = {"player": player, "second": with_article(self.called(scene.second))}
            wording = self.bank.phrase("sound_together", slots, self.rng)
            return self.recording(scene), {"sound": wording}
        count_named = self.rng.random() < NAMED_COUNT_PROBABILITY
        if not count_named:
            scene = replace(scene, count=DEFAULT_COUNT)
        if scene == plain(sound) and not count_named:
            return self.recording(scene), source_slots(sound, player) | {"sound": player}
        return self.recording(scene), self.say_notes(scene, player, count_named)

    def say_notes(self, scene: SoundScene, player: str, count_named: bool) -> dict[str, str]:
        """Word what an instrument plays: ``two high notes``, and who plays it."""
        number = self.bank.word("number", scene.count or 1, self.rng) if count_named else ""
        register = self.bank.word("register", scene.register, self.rng) if scene.register else ""
        speed = self.bank.word("speed", scene.speed, self.rng) if scene.speed else ""
        contour = way = ""
        if scene.contour and self.rng.random() < 0.5:
            contour = self.bank.word("contour", scene.contour, self.rng)
        elif scene.contour:
            way = self.bank.word("contour_after", scene.contour, self.rng)
        rest = (register, contour, note_word(scene), way)
        notes = _joined(number, speed, *rest)
        register_alone = register and not (count_named or scene.contour or scene.speed)
        if register_alone and self.rng.random() < REGISTER_BEFORE_NAME_PROBABILITY:
            sound = with_article(f"{register} {scene.sound}")
            return {"player": player, "notes": notes, "sound": sound}
        pattern = self.rng.choice(self.bank.phrases["sound_notes"])
        if scene.speed and pattern.endswith("{notes}") and self.rng.random() < ADVERB_PROBABILITY:
            adverb = self.bank.word("speed_after", scene.speed, self.rng)
            sound = pattern.format(player=player, notes=_joined(number, *rest, adverb))
        else:
            sound = pattern.format(player=player, notes=notes)
        return {"player": player, "notes": notes, "sound": sound}

    # Sounds changed.

    def edit(self, shown: Recording, attached: bool) -> tuple[Recording, str]:
        """Think of a sound like the given one but for one thing, and the words for it."""
        possible = {
            edit: scenes
            for edit, changed in self.edits(shown.scene).items()
            if (scenes := [scene for scene in changed if self.is_asked_for(scene)])
        }
        weights = [_EDIT_WEIGHTS[edit] for edit in possible]
        edit = self.rng.choices(list(possible), weights)[0]
        scene = self.rng.choice(possible[edit])
        section = "sound_transform_again" if attached and edit == "sound_again" else edit
        return self.recording(scene), self.bank.phrase(section, self.edit_slots(scene), self.rng)

    def edits(self, scene: SoundScene) -> dict[str, list[SoundScene]]:
        """List what can be changed about a sound -> the sounds that it can become."""
        again = {"sound_again": [scene]}
        if scene.second is not None:
            return again
        if scene.sound not in INSTRUMENTS:
            others = [name for name in self.index.concepts if name not in INSTRUMENTS]
            return again | {"sound_source": [plain(name) for name in others if name != scene.sound]}
        count = scene.count or DEFAULT_COUNT
        fewest = 3 if scene.contour else 2 if scene.speed else 1
        pitched = scene.sound in PITCHED
        bound = scene.register is not None or scene.contour is not None
        instruments = [
            name
            for name in self.index.concepts
            if name in (PITCHED if bound else INSTRUMENTS) and name != scene.sound
        ]
        registers = [r for r in get_args(Register) if pitched and r != scene.register]
        contours = [c for c in get_args(Contour) if pitched and count >= 3 and c != scene.contour]
        return again | {
            "sound_register": [replace(scene, register=register) for register in registers],
            "sound_contour": [replace(scene, contour=contour) for contour in contours],
            "sound_count": [
                replace(scene, count=number)
                for number in NOTE_COUNTS
                if number >= fewest and number != count
            ],
            "sound_speed": [
                replace(scene, speed=speed)
                for speed in SPEED_WORDS
                if count >= 2 and speed != scene.speed
            ],
            "sound_instrument": [replace(scene, sound=name) for name in instruments],
        }

    def edit_slots(self, scene: SoundScene) -> dict[str, str]:
        """Fill the slots that the wish for a changed sound may use."""
        slots = {"a_noun": with_article(scene.sound), "source": sound_notes(scene.sound).source}
        if scene.count:
            slots |= {
                "number": self.bank.word("number", scene.count, self.rng),
                "notes": note_word(scene),
            }
        for kind in ("register", "contour", "speed"):
            if value := getattr(scene, kind):
                slots[kind] = self.bank.word(kind, value, self.rng)
        if scene.contour:
            slots["rise"] = self.bank.word("contour_verb", scene.contour, self.rng)
        if scene.register:
            slots["higher"] = self.bank.word("comparative", scene.register, self.rng)
            slots["not_high"] = _OPPOSITES[scene.register]
        if scene.speed:
            slots["faster"] = self.bank.word("comparative", scene.speed, self.rng)
            slots["quickly"] = self.bank.word("speed_after", scene.speed, self.rng)
            slots["not_fast"] = _OPPOSITES[scene.speed]
        return slots

    # Sounds heard.

    def question(self, shown: Recording) -> tuple[str, str]:
        """Write a question about a sound and its answer; both are about the one heard."""
        scene = sound_scene_of(shown.item)
        alone = scene.second is None
        topics = {
            "listen_source": 34,
            "listen_all": 22,
            "listen_is_it": 16 if alone else 0,
            "listen_register": 14 if scene.register else 0,
            "listen_contour": 14 if scene.contour else 0,
            "listen_count": 8 if scene.count else 0,
        }
        topic = self.rng.choices(list(topics), list(topics.values()))[0]
        answer = topic
        slots = kind_slots(scene.sound) if alone else {}
        if scene.count:
            slots["notes"] = plural_note_word(scene)
            slots["are_the_notes"] = f"{'are' if scene.count > 1 else 'is'} the {note_word(scene)}"
        if topic == "listen_is_it":
            guess = self.guess(scene.sound, _KINDS)
            slots["a_guess"] = sound_notes(guess).source
            answer = "yes_concept" if guess == scene.sound else "no_sound"
        return self.bank.phrase(topic, slots, self.rng), reply(answer, heard(scene), self.rng)

    def description(self, shown: Recording) -> str:
        """Answer a sound that comes without a word."""
        return reply("listen_all", heard(sound_scene_of(shown.item)), self.rng)

    def answer_slots(self, shown: Recording) -> dict[str, str]:
        """Fill the slots of the answers that come with a sound."""
        return heard(shown.scene)


def plain(sound: str) -> SoundScene:
    """Choose what is heard of a sound when the user names no detail."""
    return SoundScene(sound, DEFAULT_COUNT if sound in INSTRUMENTS else None)


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def note_word(scene: SoundScene) -> str:
    """Call what an instrument plays: ``note``, ``notes``, ``beat`` or ``beats``."""
    notes = plural_note_word(scene)
    return notes.removesuffix("s") if scene.count == 1 else notes


def plural_note_word(scene: SoundScene) -> str:
    """Call several of what an instrument plays: ``notes`` or ``beats``."""
    return "notes" if SOUNDS[scene.sound].pitched else "beats"


def source_slots(sound: str, source: str) -> dict[str, str]:
    """Fill the slots that name what makes a sound, where the user names no detail of it."""
    slots = {"source": source, "bare": sound}
    kind = SOUNDS[sound].kind
    return slots | ({f"an_{kind}": source} if kind in ("animal", "instrument") else {})


def heard(scene: SoundScene) -> dict[str, str]:
    """Fill the slots that answers about a sound may use."""
    caption, source = describe_sound(scene), sound_notes(scene.sound).source
    several = scene.second is not None or not caption.startswith(("a ", "an "))
    if scene.second is not None:
        source = f"{source} and {with_article(scene.second)}"
    slots = {
        "caption": caption,
        "Caption": capitalised(caption),
        "subject": source,
        "Subject": capitalised(source),
        "here_is": "Here is the sound of" if several else "Here is",
        "this_is": "This is the sound of" if several else "This is",
        "this_is_lower": "this is",
        "it_is": "It is",
    }
    if scene.count:
        one = scene.count == 1
        slots |= {
            "counted": f"{NOTE_COUNTS[scene.count]} {note_word(scene)}",
            "notes_are": f"{note_word(scene)} {'is' if one else 'are'}",
            "they_are": "It is" if one else "They are",
            "is_are": "is" if one else "are",
            "register": scene.register or "",
            "contour": scene.contour or "",
        }
    return slots
