"""Where training conversations come from: manifests of captioned media, and dialogues."""

import hashlib
import random
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.media import MEDIUM_TYPES, Medium
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.sources import cache_dir

if TYPE_CHECKING:
    from nextgpt.model import NextGPTModel


def world_manifest() -> Path:
    """Where ``nextgpt world build`` puts the manifest of the micro world."""
    return cache_dir() / "world" / "manifest.jsonl"


def medium_of(item: Item, manifest: Path) -> Medium:
    """The file that an item describes, with its caption."""
    medium_type = MEDIUM_TYPES[Modality(item.modality)]
    return medium_type(manifest.parent / item.path, caption=item.caption)


class ConversationSource(ABC):
    """An endless, reproducible supply of conversations."""

    @abstractmethod
    def conversation(self, index: int) -> Conversation:
        """Return number ``index``; equal for equal arguments of the source."""

    def prepare(self, chain: "NextGPTModel") -> None:  # noqa: B027  most need nothing
        """Make what conversations are made of, before the first one is asked for."""

    def size(self) -> int:
        """Number of different examples, for rules that make weights of sizes.

        Raises:
            ValueError: nobody knows.
        """
        raise ValueError(f"{type(self).__name__} has no size; give weights as numbers")

    def files(self) -> list[Path]:
        """Files that must be there before ``prepare``."""
        return []

    def media(self) -> list[Medium]:
        """All media that conversations may show, so that features are computed beforehand."""
        return []

    def captions(self) -> list[Medium]:
        """Media whose captions conversations may ask a decoder for."""
        return []

    def provenance(self) -> dict[str, Any]:
        """What a checkpoint's record says of this source."""
        return {"source": type(self).__name__}


class ManifestSource(ConversationSource):
    """Base of the sources that turn one captioned medium into one exchange."""

    def __init__(
        self,
        manifest: Path | None = None,
        split: str = "train",
        modalities: list[str] | None = None,
        num_items: int | None = None,
        seed: int = 0,
    ) -> None:
        """Choose items.

        Args:
            manifest: JSON lines, see ``nextgpt.data.manifest``; the micro world by default.
            split: Which items.
            modalities: Of these modalities; all by default.
            num_items: A random choice of so many; all by default.
            seed: Of the choice and of the order.
        """
        self.manifest = manifest or world_manifest()
        self.split = split
        self.modalities = modalities
        self.num_items = num_items
        self.seed = seed

    def size(self) -> int:
        """Number of chosen items."""
        return len(self.items)

    def files(self) -> list[Path]:
        """The manifest."""
        return [self.manifest]

    @cached_property
    def items(self) -> list[Item]:
        """The chosen items.

        Raises:
            ValueError: the manifest is missing or has none of them.
        """
        items = [
            item
            for item in read_manifest(self.manifest)
            if item.split == self.split
            and (self.modalities is None or item.modality in self.modalities)
        ]
        if not items:
            raise ValueError(f"{self.manifest}: no items of split {self.split!r} to learn from")
        if self.num_items is not None and self.num_items < len(items):
            items = random.Random(self.seed).sample(items, self.num_items)
        return items

    def provenance(self) -> dict[str, Any]:
        """Split, number of items and hash of the manifest as well."""
        manifest = hashlib.sha256(self.manifest.read_bytes()).hexdigest()[:16]
        facts = {"split": self.split, "items": len(self.items), "manifest": manifest}
        return super().provenance() | facts

    def medium(self, index: int) -> Medium:
        """Medium number ``index`` of the endless supply, every item once a round."""
        round_number, position = divmod(index, len(self.items))
        if getattr(self, "_round", None) != round_number:
            self._order = list(range(len(self.items)))
            random.Random(f"{self.seed} {round_number}").shuffle(self._order)
            self._round = round_number
        return medium_of(self.items[self._order[position]], self.manifest)


class MediumToCaption(ManifestSource):
    """A medium is shown, its caption is the answer: encoding-side alignment."""

    def conversation(self, index: int) -> Conversation:
        """Return [medium] -> caption."""
        medium = self.medium(index)
        assert medium.caption is not None, "every item has a caption"
        return Conversation().user(medium).assistant(medium.caption)

    def media(self) -> list[Medium]:
        """All items."""
        return [medium_of(item, self.manifest) for item in self.items]


class CaptionToMedium(ManifestSource):
    """A caption is given, a signal run is the answer: decoding-side alignment, captions only."""

    def conversation(self, index: int) -> Conversation:
        """Return caption -> [medium]."""
        medium = self.medium(index)
        assert medium.caption is not None, "every item has a caption"
        return Conversation().user(medium.caption).assistant(medium)

    def captions(self) -> list[Medium]:
        """All items: some share a caption, but not what they look or sound like."""
        return [medium_of(item, self.manifest) for item in self.items]
