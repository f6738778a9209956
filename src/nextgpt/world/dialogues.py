"""Dialogues about the micro world: when an answer holds which media, and what those show."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from nextgpt.data.manifest import Item
from nextgpt.world.dialogue_media import (
    Clip,
    DialogueMedia,
    DialogueTurn,
    Picture,
    Recording,
    Shown,
    motion_scene_of,
    scene_of,
    sound_scene_of,
)
from nextgpt.world.dialogue_writer import DialogueWriter, Kind, possible_kinds
from nextgpt.world.phrase_bank import BankName, load_bank

__all__ = [
    "KIND_WEIGHTS",
    "Clip",
    "DialogueSampler",
    "DialogueTurn",
    "Kind",
    "Picture",
    "Recording",
    "Shown",
    "motion_scene_of",
    "scene_of",
    "sound_scene_of",
]

KIND_WEIGHTS: dict[Kind, float] = {
    "draw": 0.09,
    "sound": 0.07,
    "animate": 0.07,
    "look": 0.075,
    "listen": 0.07,
    "watch": 0.07,
    "chat": 0.095,
    "multi_turn": 0.085,
    "several": 0.07,
    "pair": 0.02,
    "couple": 0.015,
    "cross": 0.055,
    "transform": 0.045,
    "outside": 0.17,
}
"""Share of each kind of dialogue."""


class DialogueSampler:
    """Draws dialogues: ``sampler(index)`` is the same for the same seed, in constant time.

    Args:
        items: a world's manifest. The "train" bank shows the media of split "train" and asks for no
            concept on a background, and no register and contour of an instrument, that are kept
            from training; the "held_out" bank shows the others and asks for all. Pictures there
            must be; without sounds or clips, the kinds that need them do not occur.
        bank: whose phrasings the users have.
        seed: another seed gives other dialogues.
        kind_weights: share of each kind, in any unit; a kind left out does not occur.
        taught: captions of what is learned beside these dialogues: nothing that they name is
            refused.

    Raises:
        ValueError: an unknown bank or kind, or no picture for the bank among the items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        bank: BankName = "train",
        seed: int = 0,
        kind_weights: Mapping[Kind, float] = KIND_WEIGHTS,
        taught: Iterable[str] = (),
    ) -> None:
        if bank not in get_args(BankName):
            raise ValueError(f"bank {bank!r} is not one of: {', '.join(get_args(BankName))}")
        if unknown := set(kind_weights) - set(get_args(Kind)):
            raise ValueError(
                f"unknown kinds {sorted(unknown)}; there are {', '.join(KIND_WEIGHTS)}"
            )
        self.bank = load_bank(bank).granting(taught)
        self.seed = seed
        self.media = DialogueMedia(
            [item for item in items if (item.split == "train") == (bank == "train")]
        )
        if not self.media.pictures.concepts:
            raise ValueError(
                f"none of {len(items)} items is a picture for the {bank!r} bank; "
                "build the world with `nextgpt world build`"
            )
        self.pictures = self.media.pictures
        self.possible_kinds = possible_kinds(self.media)
        """The kinds there are media for."""
        self.kind_weights = {
            kind: weight for kind, weight in kind_weights.items() if kind in self.possible_kinds
        }
        if not self.kind_weights:
            raise ValueError(f"the {len(items)} items hold no media for {', '.join(kind_weights)}")

    def __call__(self, index: int, kind: Kind | None = None) -> list[DialogueTurn]:
        """Draw a dialogue, the user's turn first and the assistant's last.

        Args:
            index: which one; 0 or more, without upper end.
            kind: its kind; None draws one.

        Raises:
            ValueError: there are no media for the kind.
        """
        rng = random.Random(f"{self.seed}/{self.bank.name}/{index}")
        if kind is None:
            kind = rng.choices(list(self.kind_weights), list(self.kind_weights.values()))[0]
        if kind not in self.possible_kinds:
            raise ValueError(
                f"there are no media for dialogues of kind {kind!r}: build a larger world"
            )
        return DialogueWriter(self.bank, self.media, rng).write(kind)
