"""Dialogues about the micro world: when an answer holds a picture, and what that picture shows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import get_args

from nextgpt.data.manifest import Item
from nextgpt.world.dialogue_pictures import DialogueTurn, Picture, PictureIndex, scene_of
from nextgpt.world.dialogue_writer import DialogueWriter, Kind
from nextgpt.world.phrase_bank import BankName, load_bank

__all__ = ["KIND_WEIGHTS", "DialogueSampler", "DialogueTurn", "Kind", "Picture", "scene_of"]

KIND_WEIGHTS: dict[Kind, float] = {
    "draw": 0.26,
    "look": 0.29,
    "chat": 0.18,
    "multi_turn": 0.12,
    "transform": 0.04,
    "pair": 0.04,
    "outside": 0.07,
}
"""Share of each kind of dialogue."""


class DialogueSampler:
    """Draws dialogues: ``sampler(index)`` is the same for the same seed, in constant time.

    Args:
        items: a world's manifest. The "train" bank shows the pictures of split "train" and asks for
            no concept on a background kept from training; the "held_out" bank shows the others
            and asks for all.
        bank: whose phrasings the users have.
        seed: another seed gives other dialogues.
        kind_weights: share of each kind, in any unit; a kind left out does not occur.

    Raises:
        ValueError: an unknown bank or kind, or no picture for the bank among the items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        bank: BankName = "train",
        seed: int = 0,
        kind_weights: Mapping[Kind, float] = KIND_WEIGHTS,
    ) -> None:
        if bank not in get_args(BankName):
            raise ValueError(f"bank {bank!r} is not one of: {', '.join(get_args(BankName))}")
        if unknown := set(kind_weights) - set(get_args(Kind)):
            raise ValueError(
                f"unknown kinds {sorted(unknown)}; there are {', '.join(KIND_WEIGHTS)}"
            )
        pictures = [
            item
            for item in items
            if item.modality == "image" and (item.split == "train") == (bank == "train")
        ]
        if not pictures:
            raise ValueError(
                f"none of {len(items)} items is a picture for the {bank!r} bank; "
                "build the world with `nextgpt world build`"
            )
        self.bank = load_bank(bank)
        self.seed = seed
        self.kind_weights = dict(kind_weights)
        self.pictures = PictureIndex(pictures)

    def __call__(self, index: int, kind: Kind | None = None) -> list[DialogueTurn]:
        """Draw a dialogue, the user's turn first and the assistant's last.

        Args:
            index: which one; 0 or more, without upper end.
            kind: its kind; None draws one.
        """
        rng = random.Random(f"{self.seed}/{self.bank.name}/{index}")
        if kind is None:
            kind = rng.choices(list(self.kind_weights), list(self.kind_weights.values()))[0]
        return DialogueWriter(self.bank, self.pictures, rng).write(kind)
