"""A manifest without files: every picture, sound and clip that dialogues may want, many times."""

from __future__ import annotations

import random
from dataclasses import asdict

from nextgpt.data.manifest import Item
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.dialogues import DialogueTurn, Shown
from nextgpt.world.motions import LOOPS, MOTIONS, OWN_HELD_OUT, MotionScene, describe_motion
from nextgpt.world.scenes import (
    COLOURS,
    Scene,
    describe,
    is_held_out_pair,
    sample_couple,
    sample_scene,
)
from nextgpt.world.sounds import (
    INSTRUMENTS,
    SOUNDS,
    SoundScene,
    describe_sound,
    is_held_out_sound,
    sample_sound,
)


def picture_item(name: str, scene: Scene, split: str, view: str = "whole") -> Item:
    """Describe a picture."""
    attributes = asdict(scene) | {"view": view}
    concept = attributes.pop("concept")
    return Item(name, "image", f"{name}.png", describe(scene), concept, attributes, "", "", split)


def sound_item(name: str, scene: SoundScene, split: str) -> Item:
    """Describe a sound."""
    attributes = asdict(scene) | {"kind": SOUNDS[scene.sound].kind}
    sound = attributes.pop("sound")
    caption = describe_sound(scene)
    return Item(name, "audio", f"{name}.wav", caption, sound, attributes, "", "", split)


def clip_item(name: str, scene: MotionScene, split: str) -> Item:
    """Describe a clip."""
    attributes = asdict(scene) | {"drawing": "noto/any"}
    concept = attributes.pop("concept")
    caption = describe_motion(scene)
    return Item(name, "video", f"{name}.mp4", caption, concept, attributes, "", "", split)


def picture_items() -> list[Item]:
    """Every concept on every background, in the split the world puts it, with other scenes."""
    rng = random.Random(0)
    scenes = [Scene(c, b) for c in CONCEPTS for b in COLOURS]
    scenes += [sample_scene(rng, concept) for concept in CONCEPTS for _ in range(30)]
    scenes += [
        sample_couple(rng, concept, held_out) for concept in CONCEPTS for held_out in (False, True)
    ]
    return [
        picture_item(f"{split}-{number}", scene, split)
        for number, scene in enumerate(scenes)
        for split in _splits("held_out_pair", _is_held_out(scene))
    ]


def _is_held_out(scene: Scene) -> bool:
    others = (scene.background, *([scene.second] if scene.second else []))
    return any(is_held_out_pair(scene.concept, other) for other in others)


def sound_items() -> list[Item]:
    """Every sound, instruments in many ways."""
    rng = random.Random(0)
    scenes = [
        sample_sound(rng, sound)
        for sound in SOUNDS
        for _ in range(60 if sound in INSTRUMENTS else 2)
    ]
    return [
        sound_item(f"sound-{split}-{number}", scene, split)
        for number, scene in enumerate(scenes)
        for split in _splits("held_out_combination", is_held_out_sound(scene))
    ]


def clip_items() -> list[Item]:
    """Every concept in every motion on every background, loops as well."""
    scenes = [
        MotionScene(concept, background, motion)
        for concept in CONCEPTS
        for background in COLOURS
        for motion in (*MOTIONS, *(own for own, loops in LOOPS.items() if concept in loops))
    ]
    made = []
    for number, scene in enumerate(scenes):
        splits = _splits("held_out_pair", is_held_out_pair(scene.concept, scene.background))
        if scene.motion == OWN_HELD_OUT:
            splits = ("held_out_loop",)
        made += [clip_item(f"clip-{split}-{number}", scene, split) for split in splits]
    return made


def _splits(held_out: str, is_held_out: bool) -> tuple[str, ...]:
    return (held_out,) if is_held_out else ("train", "validation")


def texts(turns: list[DialogueTurn], role: str | None = None) -> list[str]:
    """What a dialogue says, or one side of it."""
    return [
        part
        for turn in turns
        if role in (None, turn.role)
        for part in turn.parts
        if isinstance(part, str)
    ]


def media(turns: list[DialogueTurn], role: str | None = None) -> list[Shown]:
    """What a dialogue shows, or one side of it."""
    return [shown for turn in turns if role in (None, turn.role) for shown in turn.media]
