"""What is measured, as pure functions: what a text names, background colours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import numpy as np
from PIL import Image

from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.motions import LOOPS
from nextgpt.world.phrase_bank import concept_notes
from nextgpt.world.scenes import COLOURS
from nextgpt.world.sounds import INSTRUMENTS

BORDER_SHARE = 1 / 32
"""Width of the rim that a background's colour is read from, as a share of the picture's."""

# The words of "bounce" come first: "up and down" is neither up nor down.
MOTION_WORDS: dict[str, str] = {
    "bounce": r"up and down|bounc\w*|jump\w*|hop(?:s|ping)?",
    "left": r"left(?:wards?)?",
    "right": r"right(?:wards?)?",
    "up": r"up(?:wards?)?|ris(?:es?|ing)|climb\w*|ascend\w*",
    "down": r"down(?:wards?)?|fall(?:s|ing)?|sink(?:s|ing)?|descend\w*",
    "grow": r"gr[eo]w\w*|(?:bigger|larger)|expand\w*",
    "shrink": r"shr[aiu]nk\w*|smaller",
    "spin": r"sp[iu]n\w*|rotat\w*|twirl\w*|whirl\w*|turn(?:s|ing)",
}
"""Programmed motion -> the words, as a regular expression, that a caption may have for it."""


def background_of(picture: Image.Image) -> str:
    """Name the colour behind what a picture shows: its rim's median, nearest in CIELAB."""
    values = np.asarray(picture.convert("RGB"))
    rim = max(1, round(min(picture.size) * BORDER_SHARE))
    inside = np.zeros(values.shape[:2], dtype=bool)
    inside[rim:-rim, rim:-rim] = True
    median = np.median(values[~inside], axis=0)
    lab = _cielab(median)
    return min(COLOURS, key=lambda name: float(np.square(lab - _cielab(COLOURS[name])).sum()))


def _cielab(rgb: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    """Convert one sRGB colour, 0 to 255, to CIELAB under D65."""
    scaled = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    relative = to_xyz @ linear / np.array([0.95047, 1.0, 1.08883])
    cut = 6 / 29
    x, y, z = np.where(relative > cut**3, np.cbrt(relative), relative / (3 * cut**2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def concepts_named(text: str) -> set[str]:
    """Find the world's concepts that a text names: by name, plural or another name for it."""
    return _named(text, _concept_names())


def instruments_named(text: str) -> set[str]:
    """Find the instruments that a text names: by name, plural or another name for it."""
    return _named(text, _instrument_names())


def motion_named(text: str) -> str | None:
    """Find the one programmed motion that a text names; None for none and for several."""
    found, taken = set(), text.lower()
    for motion, pattern in MOTION_WORDS.items():
        taken, mentions = re.subn(rf"\b(?:{pattern})\b", " ", taken)
        if mentions:
            found.add(motion)
    return found.pop() if len(found) == 1 else None


def loop_verb(phrase: str) -> str:
    """Take the verb from what happens in a loop: ``wagging`` from ``wagging its tail``."""
    return phrase.split()[0]


def loop_verb_named(text: str) -> str | None:
    """Find the one verb of the artists' loops that a text names; None for none and several."""
    verbs = {loop_verb(loop.phrase) for loops in LOOPS.values() for loop in loops.values()}
    found = verbs.intersection(re.findall(r"[a-z]+", text.lower()))
    return found.pop() if len(found) == 1 else None


def _named(text: str, names: Mapping[str, str]) -> set[str]:
    found, taken = set(), text.lower()
    for words, name in names.items():
        # Longer names come first and are taken out: "racing car" and "car" are one mention.
        taken, mentions = re.subn(rf"\b{re.escape(words)}\b", " ", taken)
        if mentions:
            found.add(name)
    return found


@cache
def _concept_names() -> Mapping[str, str]:
    """Everything a concept is called, longest first, to its name."""
    names: dict[str, str] = {}
    for concept in CONCEPTS.values():
        for words in (concept.name, concept.plural, *concept_notes(concept.name).aliases):
            names |= dict.fromkeys((words, _plural(words)), concept.name)
    return _longest_first(names)


@cache
def _instrument_names() -> Mapping[str, str]:
    """Everything an instrument is called, longest first, to its name."""
    names: dict[str, str] = {}
    for name in INSTRUMENTS:
        aliases = concept_notes(name).aliases if name in CONCEPTS else ()
        for words in (name, *aliases):
            names |= dict.fromkeys((words, _plural(words)), name)
    return _longest_first(names)


def _plural(words: str) -> str:
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def _longest_first(names: Mapping[str, str]) -> Mapping[str, str]:
    return {words: names[words] for words in sorted(names, key=len, reverse=True)}
