"""What dialogues are made of, and the search for a medium of the world that shows a scene."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from nextgpt.data.manifest import Item
from nextgpt.modality import MODALITIES, Modality
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.motions import MotionScene
from nextgpt.world.scenes import Scene
from nextgpt.world.sounds import SOUNDS, SoundScene


@dataclass(frozen=True)
class Picture:
    """A picture in a dialogue: what it should show, and a drawn picture that shows it."""

    modality: ClassVar[Modality] = Modality.IMAGE
    scene: Scene
    caption: str
    """Caption the image decoder is to be conditioned on."""
    item: Item
    """The manifest's picture nearest to the scene; the dialogue's later text is about this one."""
    background_named: bool = True
    """Whether the background follows from the user's words or media; else the concept's own."""


@dataclass(frozen=True)
class Recording:
    """A sound in a dialogue: what should be heard, and a sound of the world that lets it be."""

    modality: ClassVar[Modality] = Modality.AUDIO
    scene: SoundScene
    caption: str
    """Caption the audio decoder is to be conditioned on."""
    item: Item
    """The manifest's sound nearest to the scene; the dialogue's later text is about this one."""


@dataclass(frozen=True)
class Clip:
    """A clip in a dialogue: what should happen, and a clip of the world where it does."""

    modality: ClassVar[Modality] = Modality.VIDEO
    scene: MotionScene
    caption: str
    """Caption the video decoder is to be conditioned on."""
    item: Item
    """The manifest's clip nearest to the scene; the dialogue's later text is about this one."""
    background_named: bool = True
    """Whether the background follows from the user's words or media; else the concept's own."""


Shown: TypeAlias = Picture | Recording | Clip
"""A medium in a dialogue."""
AnyScene: TypeAlias = Scene | SoundScene | MotionScene
SceneT = TypeVar("SceneT", bound=AnyScene)


@dataclass(frozen=True)
class DialogueTurn:
    """One message: text and media in order."""

    role: Literal["user", "assistant"]
    parts: tuple[str | Shown, ...]

    @property
    def media(self) -> tuple[Shown, ...]:
        """The media among the parts, in order."""
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures among the parts, in order."""
        return tuple(medium for medium in self.media if isinstance(medium, Picture))


def scene_of(item: Item) -> Scene:
    """Read the scene of a picture in a manifest; its style is left open."""
    attributes = item.attributes
    return Scene(
        item.concept,
        attributes["background"],
        attributes["size"],
        attributes["place"],
        attributes["count"],
        second=attributes["second"],
    )


def sound_scene_of(item: Item) -> SoundScene:
    """Read the scene of a sound in a manifest."""
    names = ("count", "register", "contour", "speed", "second")
    return SoundScene(item.concept, **{name: item.attributes[name] for name in names})


def motion_scene_of(item: Item) -> MotionScene:
    """Read the scene of a clip in a manifest; its style is left open."""
    return MotionScene(item.concept, item.attributes["background"], item.attributes["motion"])


def thing_of(shown: Shown) -> str:
    """Name the thing that is seen or heard; of two at once the first."""
    return shown.scene.sound if isinstance(shown, Recording) else shown.scene.concept


def is_single(scene: AnyScene) -> bool:
    """Tell whether one thing is seen or heard, not several."""
    if isinstance(scene, MotionScene):
        return True
    return scene.second is None and (isinstance(scene, SoundScene) or scene.count == 1)


class MediaIndex(ABC, Generic[SceneT]):
    """The media of one modality that dialogues may show, found by what they show.

    Args:
        items: of a manifest; those of other modalities are left aside.
    """

    modality: ClassVar[Modality]
    names: ClassVar[tuple[str, ...]]
    """Every name that a medium's concept may have, in the order of the world's table."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = [item for item in items if item.modality == self.modality]
        # Histories show the drawing a caption with the bare noun means, never a face or a variant.
        whole = [item for item in self.items if item.attributes.get("view", "whole") == "whole"]
        shown = {item.concept for item in whole}
        self.concepts = [name for name in self.names if name in shown]
        """Things there is such a medium of."""
        self.singles: dict[str, list[Item]] = defaultdict(list)
        """Concept -> the media that show one of it and nothing else."""
        self._by_prefix: dict[tuple[str | int | None, ...], list[Item]] = defaultdict(list)
        for item in whole:
            key = self._key_of(item)
            for length in range(1, len(key) + 1):
                self._by_prefix[key[:length]].append(item)
            if is_single(self.scene_of(item)):
                self.singles[item.concept].append(item)

    @staticmethod
    @abstractmethod
    def scene_of(item: Item) -> SceneT:
        """Read what an item shows."""

    @staticmethod
    @abstractmethod
    def key(scene: SceneT) -> tuple[str | int | None, ...]:
        """List what is compared, what matters most first."""

    def _key_of(self, item: Item) -> tuple[str | int | None, ...]:
        key = self.key(self.scene_of(item))
        # Scenes leave the style open, which keys hold last; captions may name it.
        return (*key[:-1], item.attributes["style"]) if "style" in item.attributes else key

    def nearest(self, scene: SceneT, rng: random.Random) -> Item:
        """Draw one of the media that agree with a scene the longest, in the order of its key.

        Raises:
            ValueError: no medium shows the concept.
        """
        key = self.key(scene)
        # What the scene leaves open at the key's end need not be open in the medium.
        length = max(number for number, value in enumerate(key, start=1) if value is not None)
        for end in range(length, 0, -1):
            if found := self._by_prefix.get(key[:end]):
                return rng.choice(found)
        raise ValueError(f"no {self.modality} of {key[0]!r} among the items: build a larger world")


class PictureIndex(MediaIndex[Scene]):
    """Pictures, found by concept first and style last."""

    modality = Modality.IMAGE
    names = tuple(CONCEPTS)
    scene_of = staticmethod(scene_of)

    @cached_property
    def couples(self) -> list[Item]:
        """The pictures of two things."""
        return [item for item in self.items if item.attributes["second"]]

    @staticmethod
    def key(scene: Scene) -> tuple[str | int | None, ...]:
        """List what is compared, what matters most first."""
        place = (scene.size, scene.place, scene.count)
        return (scene.concept, scene.second, scene.background, *place, scene.style)


class RecordingIndex(MediaIndex[SoundScene]):
    """Sounds, found by their source first and the number of notes last."""

    modality = Modality.AUDIO
    names = tuple(SOUNDS)
    scene_of = staticmethod(sound_scene_of)

    @staticmethod
    def key(scene: SoundScene) -> tuple[str | int | None, ...]:
        """List what is compared, what matters most first."""
        pitch = (scene.register, scene.contour)
        return (scene.sound, scene.second, *pitch, scene.speed, scene.count)


class ClipIndex(MediaIndex[MotionScene]):
    """Clips, found by concept first and style last."""

    modality = Modality.VIDEO
    names = tuple(CONCEPTS)
    scene_of = staticmethod(motion_scene_of)

    @staticmethod
    def key(scene: MotionScene) -> tuple[str | int | None, ...]:
        """List what is compared, what matters most first."""
        return (scene.concept, scene.motion, scene.background, scene.style)


class DialogueMedia:
    """All the media dialogues may show.

    Args:
        items: of a manifest.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.pictures = PictureIndex(items)
        self.recordings = RecordingIndex(items)
        self.clips = ClipIndex(items)

    @cached_property
    def indices(self) -> dict[Modality, MediaIndex[Any]]:
        """The modalities there are media of, in the order of the table of modalities."""
        indices: tuple[MediaIndex[Any], ...] = (self.pictures, self.recordings, self.clips)
        by_modality = {index.modality: index for index in indices if index.concepts}
        return {
            modality: by_modality[modality] for modality in MODALITIES if modality in by_modality
        }

    @cached_property
    def directions(self) -> dict[tuple[Modality, Modality], list[str]]:
        """(Modality shown, another asked for) -> the things that both can show, if any."""
        things = {
            (source, target): [name for name in shown.concepts if name in asked.concepts]
            for source, shown in self.indices.items()
            for target, asked in self.indices.items()
            if source != target
        }
        return {
            (source, target): single
            for (source, target), names in things.items()
            if (single := [name for name in names if self.indices[source].singles[name]])
        }
