"""The micro world's dialogues as training conversations."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

from nextgpt.data.conversations import ManifestSource, medium_of
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message, Part
from nextgpt.modality import Modality
from nextgpt.world.dialogues import KIND_WEIGHTS, DialogueSampler, DialogueTurn, Kind, Shown
from nextgpt.world.medium_talk import capitalised
from nextgpt.world.phrase_bank import BankName, as_typed, load_bank, reply

CAPTION_REPLIES: Mapping[Modality, tuple[str, str]] = {
    Modality.IMAGE: ("draw", "look_all"),
    Modality.AUDIO: ("sound", "listen_all"),
    Modality.VIDEO: ("animate", "watch_all"),
}
"""Sections of the replies to wishes and to questions; the questions' own are called the same."""


def conversation_of(turns: Sequence[DialogueTurn], manifest: Path) -> Conversation:
    """Turn a dialogue into a conversation that shows the files of a manifest."""

    def shown(part: str | Shown) -> Part:
        if isinstance(part, str):
            return part
        medium = medium_of(part.item, manifest)
        medium.caption = part.caption
        return medium

    return Conversation(
        [Message(turn.role, [shown(part) for part in turn.parts]) for turn in turns]
    )


class CaptionDialogues(ManifestSource):
    """Wishes for media, and questions about them, of which nothing is known but the caption."""

    def conversation(self, index: int) -> Conversation:
        """Return a wish and its medium, or a medium and what it is, in turn."""
        medium = self.medium(index // 2)
        assert medium.caption is not None, "every item has a caption"
        bank, rng = load_bank("train"), random.Random(f"{self.seed}/{index}")
        several = medium.caption.startswith(("two ", "three "))
        slots = {
            "caption": medium.caption,
            "Caption": capitalised(medium.caption),
            "here_is": "Here are" if several else "Here is",
            "this_is": "These are" if several else "This is",
            "medium": "\n",
        }
        wish, question = CAPTION_REPLIES[medium.modality]
        if index % 2:
            asked = as_typed(bank.phrase(question, {}, rng), bank, rng)
            return Conversation().user(medium, asked).assistant(reply(question, slots, rng))
        asked = as_typed(bank.wish(medium.modality, medium.caption, rng), bank, rng)
        before, _, behind = reply(wish, slots, rng).partition("\n")
        parts: list[Part] = [before.strip(), medium, behind.strip()]
        return Conversation().user(asked).assistant(*(part for part in parts if part))

    def media(self) -> list[Medium]:
        """All chosen media."""
        return [medium_of(item, self.manifest) for item in self.items]

    def captions(self) -> list[Medium]:
        """All chosen media."""
        return self.media()


class WorldDialogues(ManifestSource):
    """Dialogues in every direction, see ``nextgpt.world.dialogues``."""

    def __init__(
        self,
        manifest: Path | None = None,
        split: str = "train",
        bank: str = "train",
        num_items: int | dict[str, int] | None = None,
        seed: int = 0,
        kind_weights: dict[str, float] | None = None,
        taught: Path | None = None,
    ) -> None:
        """Choose media and phrasings.

        Args:
            manifest: The micro world's manifest.
            split: Whose media the dialogues show.
            bank: ``train``, or ``held_out`` for phrasings that training never sees.
            num_items: A random choice of so many media of each modality, one number for all or by
                modality; all by default.
            seed: Of the choice and of the dialogues.
            kind_weights: Share of each kind of dialogue, in any unit; those of
                ``nextgpt.world.dialogues`` by default.
            taught: Manifest of media that are learned beside these; what their captions name is not
                refused.
        """
        super().__init__(manifest, split, seed=seed)
        self.num_items_of_each = num_items
        self.bank = bank
        self.kind_weights = kind_weights or KIND_WEIGHTS
        self.taught = taught
        self._sampler: DialogueSampler | None = None

    @cached_property
    def items(self) -> list[Item]:
        """The chosen items, modality by modality.

        Raises:
            ValueError: the manifest is missing or has none of the split.
        """
        by_modality = defaultdict(list)
        for item in super().items:
            by_modality[item.modality].append(item)
        wanted, chosen = self.num_items_of_each, []
        for modality, items in by_modality.items():
            number = wanted.get(modality) if isinstance(wanted, dict) else wanted
            if number is not None and number < len(items):
                items = random.Random(self.seed).sample(items, number)
            chosen += items
        return chosen

    def conversation(self, index: int) -> Conversation:
        """Return dialogue number ``index``."""
        if self._sampler is None:
            # The sampler itself refuses other names.
            bank = cast(BankName, self.bank)
            weights = cast(Mapping[Kind, float], self.kind_weights)
            taught = [] if self.taught is None else read_manifest(self.taught)
            captions = [item.caption for item in taught]
            self._sampler = DialogueSampler(self.items, bank, self.seed, weights, captions)
        return conversation_of(self._sampler(index), self.manifest)

    def media(self) -> list[Medium]:
        """All chosen media."""
        return [medium_of(item, self.manifest) for item in self.items]

    def captions(self) -> list[Medium]:
        """All chosen media; dialogues may ask for other captions, computed as they come."""
        return self.media()
