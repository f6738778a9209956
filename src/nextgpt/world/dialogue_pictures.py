"""What dialogues are made of, and the search for a drawn picture that shows a scene."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nextgpt.data.manifest import Item
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.scenes import Scene


@dataclass(frozen=True)
class Picture:
    """A picture in a dialogue: what it should show, and a drawn picture that shows it."""

    scene: Scene
    caption: str
    """Caption the image decoder is to be conditioned on."""
    item: Item
    """The manifest's picture nearest to the scene; the dialogue's later text is about this one."""
    background_named: bool = True
    """Whether the background follows from the user's words or pictures; else the concept's own."""


@dataclass(frozen=True)
class DialogueTurn:
    """One message: text and pictures in order."""

    role: Literal["user", "assistant"]
    parts: tuple[str | Picture, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))


def scene_of(item: Item) -> Scene:
    """Read the scene of a picture in a manifest; its style is left open."""
    attributes = item.attributes
    return Scene(
        item.concept,
        attributes["background"],
        attributes["size"],
        attributes["place"],
        attributes["count"],
    )


class PictureIndex:
    """The pictures dialogues may show, found by what they show.

    Args:
        items: pictures of a manifest, at least one of a whole drawing.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)
        # Histories show the drawing a caption with the bare noun means, never a face or a variant.
        whole = [item for item in items if item.attributes.get("view", "whole") == "whole"]
        shown = {item.concept for item in whole}
        self.concepts = [concept for concept in CONCEPTS if concept in shown]
        """Concepts there is a picture of, in the order of the world's table."""
        self._by_prefix: dict[tuple[str | int | None, ...], list[Item]] = defaultdict(list)
        for item in whole:
            key = self._key(replace(scene_of(item), style=item.attributes["style"]))
            for length in range(1, len(key) + 1):
                self._by_prefix[key[:length]].append(item)

    @staticmethod
    def _key(scene: Scene) -> tuple[str | int | None, ...]:
        return (
            scene.concept,
            scene.background,
            scene.size,
            scene.place,
            scene.count,
            scene.style,
        )

    def nearest(self, scene: Scene, rng: random.Random) -> Item:
        """Draw one of the pictures that agree with a scene the longest: concept first, style last.

        Raises:
            ValueError: no picture shows the concept.
        """
        key = self._key(scene)
        for length in range(len(key) if scene.style else len(key) - 1, 0, -1):
            if found := self._by_prefix.get(key[:length]):
                return rng.choice(found)
        raise ValueError(f"no picture of {scene.concept!r} among the items: build a larger world")
