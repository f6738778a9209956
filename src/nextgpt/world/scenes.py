"""What one picture of the micro world holds, and how a caption says it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal, get_args

from nextgpt.world.concepts import CONCEPTS, STYLES, View

Size = Literal["medium", "small", "large"]
Place = Literal["centre", "left", "right", "top", "bottom"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (224, 49, 49),
    "orange": (245, 133, 24),
    "yellow": (250, 215, 45),
    "green": (56, 166, 76),
    "blue": (42, 100, 220),
    "purple": (135, 62, 185),
    "pink": (250, 150, 190),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
}
"""Background name -> RGB, 0 to 255."""

PLACE_PHRASES: dict[Place, str] = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
COUNT_WORDS: dict[int, str] = {1: "one", 2: "two", 3: "three"}

HELD_OUT_PAIR_PERCENT = 15
CAPTION_NAMES_STYLE_PROBABILITY = 0.6


@dataclass(frozen=True)
class Scene:
    """One or more copies of a thing, or a thing next to another, on a plain background.

    Raises:
        ValueError: an unknown word, or what no picture shows: a place other than the centre
            needs ``size="small"`` and ``count=1``; several things need ``size="medium"``.
    """

    concept: str
    background: str
    size: Size = "medium"
    place: Place = "centre"
    count: int = 1
    style: str | None = None
    """Drawing style the caption names; None leaves the hand open."""
    second: str | None = None
    """Another thing, to the right of the first."""

    def __post_init__(self) -> None:
        """Refuse what no picture shows."""
        for field, known in (
            ("concept", CONCEPTS),
            ("background", COLOURS),
            ("size", get_args(Size)),
            ("place", get_args(Place)),
            ("count", COUNT_WORDS),
            ("style", (None, *STYLES)),
            ("second", (None, *CONCEPTS)),
        ):
            value = getattr(self, field)
            if value not in known:
                options = ", ".join(str(option) for option in known)
                raise ValueError(f"scene {field} {value!r} is not one of: {options}")
        if self.place != "centre" and (self.size != "small" or self.count != 1):
            raise ValueError(
                f"scene place {self.place!r} needs size 'small' and count 1, "
                f"not size {self.size!r} and count {self.count}"
            )
        if self.count != 1 and self.size != "medium":
            raise ValueError(f"scene count {self.count} needs size 'medium', not {self.size!r}")
        if self.second and (self.size, self.place, self.count) != ("medium", "centre", 1):
            raise ValueError(
                f"scene second {self.second!r} needs size 'medium', place 'centre' and count 1, "
                f"not size {self.size!r}, place {self.place!r} and count {self.count}"
            )
        if self.second == self.concept:
            raise ValueError(f"scene second {self.second!r} is its concept: that is count 2")


def with_article(words: str) -> str:
    """Prefix words with "a" or "an": ``an owl``, ``a small owl``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def describe(scene: Scene, view: View = "whole") -> str:
    """Write the caption of a scene: lower case, no full stop.

    Args:
        scene: what the picture holds.
        view: "face" speaks of the face alone; "other" drawings are captioned like whole ones.
    """
    if scene.count > 1:
        subject = f"{COUNT_WORDS[scene.count]} {CONCEPTS[scene.concept].plural}"
    elif scene.second:
        subject = f"{with_article(scene.concept)} next to {with_article(scene.second)}"
    elif view == "face":
        size = "" if scene.size == "medium" else f"{scene.size} "
        subject = f"the {size}face of {with_article(scene.concept)}"
    else:
        size = "" if scene.size == "medium" else f"{scene.size} "
        subject = with_article(f"{size}{scene.concept}")
    place = f" {PLACE_PHRASES[scene.place]}" if scene.place != "centre" else ""
    style = f", {scene.style} style" if scene.style else ""
    return f"{subject}{place} on {with_article(scene.background)} background{style}"


def is_held_out_pair(concept: str, other: str) -> bool:
    """Tell whether a concept is never shown on this background, or next to this second thing.

    The answer hangs on the two words alone, so that adding concepts moves no pair.
    """
    digest = hashlib.sha256(f"{concept} on {other}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PAIR_PERCENT


def held_out_pairs() -> list[tuple[str, str]]:
    """List the (concept, background) pairs kept from training."""
    return [(c, b) for c in CONCEPTS for b in COLOURS if is_held_out_pair(c, b)]


def trained_backgrounds(concept: str) -> list[str]:
    """List the backgrounds a concept is shown on in training."""
    return [b for b in COLOURS if not is_held_out_pair(concept, b)]


def sample_couple(rng: random.Random, concept: str, held_out: bool = False) -> Scene:
    """Draw a scene of a concept next to another, on a background both are trained on.

    Args:
        rng: source of randomness; the same state gives the same scene.
        concept: the first of the two.
        held_out: whether training never shows the two in this order, rather than may.
    """
    others = [c for c in CONCEPTS if c != concept and is_held_out_pair(concept, c) == held_out]
    second = rng.choice(others)
    known = set(trained_backgrounds(second))
    background = rng.choice([b for b in trained_backgrounds(concept) if b in known])
    style = rng.choice(list(STYLES)) if rng.random() < CAPTION_NAMES_STYLE_PROBABILITY else None
    return Scene(concept, background, style=style, second=second)


def sample_scene(
    rng: random.Random, concept: str, background: str | None = None, single: bool = False
) -> Scene:
    """Draw a scene of one concept: 55% medium, 15% large, 20% small with a place, 10% two or three.

    Args:
        rng: source of randomness; the same state gives the same scene.
        concept: what to show.
        background: its background; None draws one of those the concept is trained on.
        single: draw no counts above one (their share falls to medium).
    """
    background = background or rng.choice(trained_backgrounds(concept))
    style = rng.choice(list(STYLES)) if rng.random() < CAPTION_NAMES_STYLE_PROBABILITY else None
    draw = rng.random()
    if draw < 0.15:
        return Scene(concept, background, size="large", style=style)
    if draw < 0.35:
        place = rng.choice(get_args(Place))
        return Scene(concept, background, size="small", place=place, style=style)
    if draw < 0.45 and not single:
        return Scene(concept, background, count=rng.choice((2, 3)), style=style)
    return Scene(concept, background, style=style)
