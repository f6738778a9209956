"""Signal tokens: the vocabulary items by which the language model asks for a medium.

They are numbered behind the language model's own vocabulary and never pass through its tokenizer,
so no text can contain one. A run of signal tokens is always whole: the model chooses only the
first token of a run, the others follow from it. A prompt template may own markers that stand around
media; they are numbered behind the signal tokens, and the model never writes them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nextgpt.modality import MODALITIES, Modality


@dataclass(frozen=True)
class SignalVocabulary:
    """Ids and rows of all signal tokens and markers behind a vocabulary of ``base_size`` tokens.

    Attributes:
        base_size: Tokens of the language model's own vocabulary; the first signal token's id.
        num_signal_tokens: Length of a run for every modality the model can answer in.
        markers: Names of the tokens that the prompt template puts around media.
    """

    base_size: int
    num_signal_tokens: Mapping[Modality, int]
    markers: tuple[str, ...] = ()

    @property
    def modalities(self) -> list[Modality]:
        """The modalities with signal tokens, in the order of the MODALITIES table."""
        return [modality for modality in MODALITIES if modality in self.num_signal_tokens]

    def __len__(self) -> int:
        """Number of signal tokens and markers: the rows that train."""
        return sum(self.num_signal_tokens.values()) + len(self.markers)

    @property
    def signal_names(self) -> list[str]:
        """Readable names of the signal tokens: ``<image_0>``, ``<image_1>`` ..."""
        return [
            f"<{modality}_{index}>"
            for modality in self.modalities
            for index in range(self.num_signal_tokens[modality])
        ]

    @property
    def names(self) -> list[str]:
        """Readable names of all, in the order of the rows."""
        return [*self.signal_names, *self.markers]

    @property
    def marker_ids(self) -> list[int]:
        """The ids of the markers."""
        end = self.base_size + len(self)
        return list(range(end - len(self.markers), end))

    def run(self, modality: Modality) -> list[int]:
        """Return the ids of one whole run."""
        start = self.base_size
        for other in self.modalities:
            if other == modality:
                return list(range(start, start + self.num_signal_tokens[other]))
            start += self.num_signal_tokens[other]
        raise ValueError(
            f"this model has no signal tokens for {modality}; it has {', '.join(self.modalities)}"
        )

    def started_by(self, token_id: int) -> Modality | None:
        """Return the modality whose run ``token_id`` starts, if it starts one."""
        for modality in self.modalities:
            if self.run(modality)[0] == token_id:
                return modality
        return None

    def forbidden(self, allowed: Collection[Modality]) -> Tensor:
        """Mask of the ids that may not be sampled next.

        Only the first token of a run may be sampled, and only for the ``allowed`` modalities.

        Returns:
            (base_size + len(self),) bool, True where forbidden.
        """
        mask = torch.zeros(self.base_size + len(self), dtype=torch.bool)
        mask[self.base_size :] = True
        for modality in self.modalities:
            if modality in allowed:
                mask[self.run(modality)[0]] = False
        return mask

    def reject_in(self, text: str) -> None:
        """Refuse text that spells a signal token, which only the model writes.

        Raises:
            ValueError: with the name of the token.
        """
        for name in self.signal_names:
            if name in text:
                raise ValueError(
                    f"the text contains {name}, a signal token that only the model may write; "
                    "remove it or spell it differently"
                )
