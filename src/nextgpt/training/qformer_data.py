"""Media with their captions, for a Q-Former that learns before there is a language model."""

import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from nextgpt.data.batches import Mixture
from nextgpt.data.cache import TensorCache, Wanted
from nextgpt.data.conversations import ConversationSource
from nextgpt.data.sampling import Rule
from nextgpt.encoders import Encoder
from nextgpt.media import Medium
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.sources import cache_dir


class Pairs(NamedTuple):
    """A batch of one modality.

    Attributes:
        features: (B, N, D_enc) float32.
        captions: B, all different.
    """

    features: Tensor
    captions: list[str]


def pair_of(conversation: Conversation) -> tuple[Medium, str]:
    """Take a medium and its caption out of an exchange that is nothing else.

    Raises:
        ValueError: it is another exchange.
    """
    parts = [part for message in conversation.messages for part in message.parts]
    roles = [message.role for message in conversation.messages]
    if roles == ["user", "assistant"] and len(parts) == 2:
        medium, caption = parts
        if isinstance(medium, Medium) and isinstance(caption, str):
            return medium, caption
    raise ValueError(
        f"a conversation of {', '.join(roles)} with {len(parts)} parts is no medium with its "
        "caption; give a source such as nextgpt.data.conversations.MediumToCaption"
    )


class PairBatches(IterableDataset):
    """Media and captions in batches of one modality, in which no caption comes twice.

    A medium would otherwise have to be told from another with the very same caption. Such a medium
    is left out when it comes; it comes again in another round.
    """

    def __init__(self, mixture: Mixture, batch_size: int) -> None:
        """Start at the beginning, as the only rank.

        Args:
            mixture: Where pairs come from.
            batch_size: Pairs a batch.
        """
        self.mixture, self.batch_size = mixture, batch_size
        self.rank, self.num_ranks, self.num_taken = 0, 1, 0
        self.limit: int | None = None
        """Batches until the end; there is none by default."""

    def __iter__(self) -> Iterator[list[tuple[str, Medium]]]:
        """Go on behind the batches taken."""
        stop = None if self.limit is None else self.num_taken + self.limit
        return itertools.islice(self._all(), self.num_taken, stop)

    def _all(self) -> Iterator[list[tuple[str, Medium]]]:
        waiting: dict[Modality, dict[str, Medium]] = {}
        for index in range(self.rank, len(self.mixture), self.num_ranks):
            medium, caption = pair_of(self.mixture[index])
            batch = waiting.setdefault(medium.modality, {})
            batch.setdefault(caption, medium)
            if len(batch) == self.batch_size:
                yield list(batch.items())
                waiting[medium.modality] = {}


class PairData(lightning.LightningDataModule):
    """Features and captions for ``QFormerStage``."""

    def __init__(
        self,
        train: list[ConversationSource],
        validation: list[ConversationSource] | None = None,
        weights: list[float] | Rule | None = None,
        batch_size: int = 64,
        num_validation: int = 4,
        cache: Literal["float32", "float16"] | None = "float32",
        seed: int = 0,
    ) -> None:
        """Choose sources.

        Args:
            train: Sources of media that are answered with their captions.
            validation: Such sources for validation, in equal shares.
            weights: Relative share of each training source, or a rule of ``nextgpt.data.sampling``
                that makes shares of their sizes; equal by default.
            batch_size: Pairs a step and rank. Each is told from the others, so more is better.
            num_validation: Batches of one validation.
            cache: Type in which features are kept on disk; null keeps nothing and computes them
                anew for every batch.
            seed: Of the mixture.

        Raises:
            ValueError: weights are missing, or there is nothing to tell pairs from.
        """
        super().__init__()
        if batch_size < 2:
            raise ValueError(f"batch_size is {batch_size}; a pair is told from others, give 2")
        self.train, self.validation = train, validation or []
        self.batch_size, self.cache = batch_size, cache
        self.batches = PairBatches(Mixture(train, weights, seed, 2**31), batch_size)
        held_out = Mixture(self.validation, None, seed + 1, 2**31)
        self.held_out = PairBatches(held_out, batch_size)
        self.held_out.limit = num_validation

    @property
    def encoder(self) -> Encoder:
        """The encoder of the stage that is trained."""
        assert self.trainer is not None, "features are made for a trainer's model"
        encoder = self.trainer.lightning_module.encoder
        assert isinstance(encoder, Encoder)
        return encoder

    def prepare_data(self) -> None:
        """Let one rank of a node fill the cache, while the others wait to read it."""
        assert self.trainer is not None
        if self.trainer.world_size > 1:
            self.setup("fit")

    def setup(self, stage: str) -> None:
        """Compute the features that are not in the cache yet.

        Raises:
            ValueError: a modality has fewer different captions than a batch holds pairs.
        """
        assert self.trainer is not None
        self.batches.rank, self.batches.num_ranks = (
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        dtype = torch.float16 if self.cache == "float16" else None
        folder = None if self.cache is None else cache_dir() / "features"
        self._cache = TensorCache(folder, self.encoder.fingerprint(), dtype)
        for sources in (self.train, self.validation):
            media = [medium for source in sources for medium in source.media()]
            for modality in {medium.modality for medium in media}:
                here = [medium for medium in media if medium.modality == modality]
                if (count := len({medium.caption for medium in here})) < self.batch_size:
                    raise ValueError(
                        f"batch_size is {self.batch_size}, but there are {count} different "
                        f"captions of {modality}; lower it or give more {modality}"
                    )
                if self.cache is not None:
                    self._wanted(modality, here).build()

    def _wanted(self, modality: Modality, media: list[Medium]) -> Wanted:
        encoder = self.encoder

        def compute(indices: list[int]) -> Tensor:
            tensors = [encoder.preprocess(modality, media[index]) for index in indices]
            device = next(encoder.parameters()).device
            return encoder.encode(modality, torch.stack(tensors).to(device)).cpu()

        keys = [medium.content_hash() for medium in media]
        return Wanted(self._cache, keys, compute, f"{modality} features")

    def _collate(self, batch: list[tuple[str, Medium]]) -> Pairs:
        captions, media = zip(*batch, strict=True)
        features = torch.stack(self._wanted(media[0].modality, [*media]).tensors())
        return Pairs(features, [*captions])

    def train_dataloader(self) -> DataLoader:
        """Endless batches of the training mixture."""
        return DataLoader(self.batches, batch_size=None, collate_fn=self._collate)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same pairs at every validation."""
        if not self.validation:
            return []
        return DataLoader(self.held_out, batch_size=None, collate_fn=self._collate)

    def provenance(self) -> list[dict[str, Any]]:
        """What the record of the training says of its data."""
        return [source.provenance() for source in self.train]

    def state_dict(self) -> dict[str, Any]:
        """Which batches training has seen."""
        assert self.trainer is not None, "a checkpoint is a trainer's"
        return {"num_taken": self.trainer.global_step * self.trainer.accumulate_grad_batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches seen."""
        self.batches.num_taken = state["num_taken"]
