"""What the micro world's sounds hold, and how a caption says it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from nextgpt.world.scenes import HELD_OUT_PAIR_PERCENT, with_article

Register = Literal["low", "high"]
Contour = Literal["rising", "falling"]
Speed = Literal["fast", "slow"]

NOTE_COUNTS: dict[int, str] = {1: "one", 2: "two", 3: "three", 4: "four"}
SPEED_WORDS: dict[Speed, str] = {"fast": "quickly", "slow": "slowly"}
PITCHES: tuple[str, ...] = ("low", "high", "rising", "falling")
"""The words a pitch tracker can hold against a sound."""


@dataclass(frozen=True)
class Sound:
    """Something heard, with a plain English name."""

    name: str
    kind: Literal["instrument", "animal", "effect"]
    phrase: str
    """What a caption says of it: ``a dog barking``; for an instrument its name with the article."""
    programs: tuple[int, ...] = ()
    """General MIDI programs that make it; none for an animal, which was recorded."""
    centre: int = 60
    """MIDI key in the middle of an instrument's range, or at which an effect is played."""
    pitched: bool = True
    """Whether its notes have a pitch that can be low, high, rising or falling."""


def _instrument(name: str, centre: int, *programs: int, pitched: bool = True) -> Sound:
    return Sound(name, "instrument", with_article(name), programs, centre, pitched)


SOUNDS: dict[str, Sound] = {
    sound.name: sound
    for sound in (
        _instrument("piano", 60, 0, 1),
        _instrument("harpsichord", 60, 6),
        _instrument("xylophone", 79, 13),
        _instrument("bell", 67, 14),
        _instrument("organ", 60, 19),
        _instrument("accordion", 62, 21),
        _instrument("guitar", 57, 24, 25),
        _instrument("violin", 69, 40),
        _instrument("cello", 48, 42),
        _instrument("harp", 64, 46),
        _instrument("trumpet", 64, 56),
        _instrument("trombone", 52, 57),
        _instrument("tuba", 50, 58),
        _instrument("saxophone", 60, 65, 66),
        _instrument("oboe", 70, 68),
        _instrument("recorder", 74, 74),
        _instrument("clarinet", 64, 71),
        _instrument("flute", 74, 73),
        _instrument("sitar", 60, 104),
        _instrument("drum", 47, 116, 117, pitched=False),
        Sound("bird", "effect", "a bird singing", (123,)),
        Sound("sea", "effect", "the waves of the sea", (122,)),
        Sound("telephone", "effect", "a telephone ringing", (124,)),
        Sound("helicopter", "effect", "a helicopter flying", (125,)),
        Sound("applause", "effect", "people clapping", (126,)),
        Sound("cat", "animal", "a cat meowing"),
        Sound("cow", "animal", "a cow mooing"),
        Sound("dog", "animal", "a dog barking"),
        Sound("duck", "animal", "a duck quacking"),
        Sound("frog", "animal", "a frog croaking"),
        Sound("horse", "animal", "a horse neighing"),
        Sound("owl", "animal", "an owl hooting"),
        Sound("pig", "animal", "a pig grunting"),
        Sound("rooster", "animal", "a rooster crowing"),
        Sound("sheep", "animal", "a sheep bleating"),
    )
}

INSTRUMENTS: tuple[str, ...] = tuple(s.name for s in SOUNDS.values() if s.kind == "instrument")
PITCHED: tuple[str, ...] = tuple(name for name in INSTRUMENTS if SOUNDS[name].pitched)

_PAIR_SHARE = 0.12


@dataclass(frozen=True)
class SoundScene:
    """One sound, or two instruments at once.

    Raises:
        ValueError: an unknown word, or what cannot be heard: notes of what is no instrument, pitch
            of what has none, a contour of fewer than three notes, a speed of one.
    """

    sound: str
    count: int | None = None
    """Notes of an instrument; None for all else, and for two at once."""
    register: Register | None = None
    contour: Contour | None = None
    speed: Speed | None = None
    second: str | None = None
    """Another instrument, heard together with the first."""

    def __post_init__(self) -> None:
        """Refuse what cannot be heard."""
        for field, known in (
            ("sound", SOUNDS),
            ("count", (None, *NOTE_COUNTS)),
            ("register", (None, *get_args(Register))),
            ("contour", (None, *get_args(Contour))),
            ("speed", (None, *SPEED_WORDS)),
            ("second", (None, *INSTRUMENTS)),
        ):
            if (value := getattr(self, field)) not in known:
                options = ", ".join(str(option) for option in known)
                raise ValueError(f"sound {field} {value!r} is not one of: {options}")
        has_notes = self.sound in INSTRUMENTS and self.second is None
        if (self.count is not None) != has_notes:
            raise ValueError(
                f"sound {self.sound!r} with second {self.second!r} and count {self.count}: a "
                "single instrument has a count of notes, and nothing else has one"
            )
        if self.second is not None and self.sound not in INSTRUMENTS:
            raise ValueError(f"sound {self.sound!r} cannot be played with {self.second!r}")
        if (self.register or self.contour) and (not has_notes or self.sound not in PITCHED):
            raise ValueError(
                f"sound {self.sound!r} has no pitch to be low, high, rising or falling"
            )
        if self.contour and (self.count or 0) < 3:
            raise ValueError(f"sound contour {self.contour!r} needs 3 notes, not {self.count}")
        if self.speed and (self.count or 0) < 2:
            raise ValueError(f"sound speed {self.speed!r} needs 2 notes, not {self.count}")


def describe_sound(scene: SoundScene) -> str:
    """Write the caption of a sound: lower case, no full stop."""
    sound = SOUNDS[scene.sound]
    if scene.second:
        return f"{sound.phrase} and {SOUNDS[scene.second].phrase} playing together"
    if scene.count is None:
        return sound.phrase
    words = [
        NOTE_COUNTS[scene.count],
        *filter(None, (scene.register, scene.contour)),
        ("note" if sound.pitched else "beat") + ("s" if scene.count > 1 else ""),
        *([SPEED_WORDS[scene.speed]] if scene.speed else []),
    ]
    return f"{sound.phrase} playing {' '.join(words)}"


def is_held_out_sound(scene: SoundScene) -> bool:
    """Tell whether an instrument is never heard with this register and contour in training."""
    if not scene.register and not scene.contour:
        return False
    digest = hashlib.sha256(f"{scene.sound} {scene.register} {scene.contour}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PAIR_PERCENT


def sample_sound(rng: random.Random, sound: str) -> SoundScene:
    """Draw a scene of one sound, held-out combinations included."""
    if sound not in INSTRUMENTS:
        return SoundScene(sound)
    if rng.random() < _PAIR_SHARE:
        return SoundScene(sound, second=rng.choice([i for i in INSTRUMENTS if i != sound]))
    count = rng.choice(list(NOTE_COUNTS))
    pitched = sound in PITCHED
    register = rng.choice(get_args(Register)) if pitched and rng.random() < 0.5 else None
    contour = (
        rng.choice(get_args(Contour)) if pitched and count >= 3 and rng.random() < 0.7 else None
    )
    speed = rng.choice(list(SPEED_WORDS)) if count >= 2 and rng.random() < 0.4 else None
    return SoundScene(sound, count, register, contour, speed)


def trained_sound(rng: random.Random, sound: str) -> SoundScene:
    """Draw a scene of one sound that training may hear."""
    return next(scene for scene in _endless(rng, sound) if not is_held_out_sound(scene))


def _endless(rng: random.Random, sound: str) -> Iterator[SoundScene]:
    while True:
        yield sample_sound(rng, sound)
