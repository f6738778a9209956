"""The micro world's dialogues as training conversations."""

from pathlib import Path

from nextgpt.data.conversations import ManifestSource, medium_of
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Part
from nextgpt.world.dialogues import DialogueSampler, Picture


class WorldDialogues(ManifestSource):
    """Dialogues in every direction, see ``nextgpt.world.dialogues``."""

    def __init__(
        self,
        manifest: Path | None = None,
        split: str = "train",
        bank: str = "train",
        num_items: int | None = None,
        seed: int = 0,
    ) -> None:
        """Choose pictures and phrasings.

        Args:
            manifest: The micro world's manifest.
            split: Whose pictures the dialogues show.
            bank: ``train``, or ``held_out`` for phrasings that training never sees.
            num_items: A random choice of so many pictures; all by default.
            seed: Of the choice and of the dialogues.
        """
        super().__init__(manifest, split, ["image"], num_items, seed)
        self.bank = bank
        self._sampler: DialogueSampler | None = None

    def conversation(self, index: int) -> Conversation:
        """Return dialogue number ``index``."""
        if self._sampler is None:
            self._sampler = DialogueSampler(self.items, self.bank, self.seed)  # type: ignore[arg-type]
        conversation = Conversation()
        for turn in self._sampler(index):
            parts = [self._part(part) for part in turn.parts]
            (conversation.user if turn.role == "user" else conversation.assistant)(*parts)
        return conversation

    def _part(self, part: str | Picture) -> Part:
        if isinstance(part, str):
            return part
        medium = medium_of(part.item, self.manifest)
        medium.caption = part.caption
        return medium  # type: ignore[return-value]

    def media(self) -> list[Medium]:
        """All chosen pictures."""
        return [medium_of(item, self.manifest) for item in self.items]

    def captions(self) -> list[Medium]:
        """All chosen pictures; dialogues may ask for other captions, computed as they come."""
        return self.media()
