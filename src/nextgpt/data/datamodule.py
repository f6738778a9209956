"""Batches for the three stages."""

from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nextgpt.batch import ChainBatch
from nextgpt.collate import collate
from nextgpt.data.batches import Mixture, SimilarLengths
from nextgpt.data.cache import TensorCache, Wanted, text_key
from nextgpt.data.conversations import ConversationSource
from nextgpt.data.requests import read_requests
from nextgpt.data.sampling import Rule
from nextgpt.media import Medium
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.prompting import SequencePlan
from nextgpt.sources import cache_dir


class ChainData(lightning.LightningDataModule):
    """Plans, features and target conditioning of conversations, for the chain being trained."""

    def __init__(
        self,
        train: list[ConversationSource] | None = None,
        validation: list[ConversationSource] | None = None,
        weights: list[float] | Rule | None = None,
        rule: Literal["draw", "in_turn"] = "draw",
        batch_size: int = 16,
        num_validation: int = 64,
        num_conversations: int | None = None,
        requests: Path | None = None,
        pack: bool = False,
        by_modality: bool = False,
        cache: Literal["float32", "float16"] | None = "float32",
        seed: int = 0,
    ) -> None:
        """Choose sources.

        Args:
            train: Sources of the training conversations.
            validation: Sources of the validation conversations, in equal shares.
            weights: Of each training source, or a rule of ``nextgpt.data.sampling`` that makes them
                of the sources' sizes; equal by default.
            rule: What weights are: the shares that conversations are drawn from the sources in; or
                factors of the sources' losses, whole batches of which come ``in_turn``, so that a
                step over one of each goes down their weighted sum (Flamingo's, arXiv:2204.14198).
            batch_size: Conversations a step and rank.
            num_validation: Conversations of one validation.
            num_conversations: Training conversations (of each source, where they come in turn)
                before the first comes again, in whole windows of batches; endless by default.
            requests: JSON lines that ``predict`` answers, one conversation each.
            pack: Let conversations share rows, so that little is padded though batches hold
                conversations of every length. Otherwise they hold similar ones.
            by_modality: Keep conversations with media and those of text alone in different batches
                (LLaVA-1.5's, arXiv:2310.03744), but for one batch a window.
            cache: Type in which what frozen parts compute (features, target conditioning, latents)
                is kept on disk; null keeps nothing and computes it anew for every batch.
            seed: Of the mixture.
        """
        super().__init__()
        self.train = train or []
        self.validation = validation or []
        self.rule = rule
        self.batch_size = batch_size
        self.num_validation = num_validation
        self.num_conversations = num_conversations
        self.requests = requests
        self.pack = pack
        self.cache = cache
        self.seed = seed
        self.mixture = Mixture(self.train, weights, seed, num_conversations or 2**31)
        self.batches = SimilarLengths(
            [self._drawn]
            if rule == "draw"
            else [partial(self._of_source, number) for number in range(len(self.train))],
            batch_size,
            seed,
            1 if pack and not by_modality else SimilarLengths.WINDOW,
            by_modality,
        )
        self._check_num_conversations()
        self.first_step = 0

    def _check_num_conversations(self) -> None:
        """Raise ValueError unless the batches of all ranks come again as they were."""
        window, number = self.batches.window * self.batches.batch_size, self.num_conversations
        if number is not None and (number < 1 or number % window):
            raise ValueError(
                f"num_conversations is {number}, which is not a multiple of {window} "
                f"({self.batches.window} batches of {self.batches.batch_size}); choose "
                f"{(number // window + 1) * window}"
            )

    def _check_accumulation(self) -> None:
        """Raise ValueError unless every step is taken over batches of all sources."""
        assert self.trainer is not None
        number, num_sources = self.trainer.accumulate_grad_batches, len(self.train)
        if self.rule == "in_turn" and (not num_sources or number % num_sources):
            raise ValueError(
                f"accumulate_grad_batches is {number}, but {num_sources} training sources come in "
                "turn and each step needs all of them; give the trainer a multiple of that"
            )

    @property
    def chain(self) -> NextGPTModel:
        """The model that the batches are for."""
        assert self.trainer is not None, "batches are made for a trainer's model"
        chain = self.trainer.lightning_module.chain
        assert isinstance(chain, NextGPTModel)
        return chain

    @property
    def needs_latents(self) -> bool:
        """Whether the stage learns from the media that it asks for, not from captions alone."""
        assert self.trainer is not None, "batches are made for a trainer's model"
        return bool(getattr(self.trainer.lightning_module, "denoising_weight", 0.0))

    @property
    def learns_encoder(self) -> bool:
        """Whether the encoder trains, so that its features change with every step."""
        return any(parameter.requires_grad for parameter in self.chain.encoder.parameters())

    def prepare_data(self) -> None:
        """Let one rank of a node fill the caches, while the others wait to read them."""
        trainer = self.trainer
        assert trainer is not None and trainer.state.fn is not None, "called by a trainer"
        if trainer.world_size > 1:
            self.setup(trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        """Prepare the sources; compute features and conditioning that are not in the cache yet.

        Raises:
            ValueError: the language model cannot read packed rows, the conversations do not fill
                whole batches of all ranks, or a step leaves out sources that come in turn.
        """
        if stage not in ("fit", "validate"):
            return
        assert self.trainer is not None
        self.batches.rank = self.trainer.global_rank
        self.batches.num_ranks = self.trainer.world_size
        self._check_num_conversations()
        if stage == "fit":
            self._check_accumulation()
        if self.pack:
            if self.chain.fusion is not None:
                raise ValueError(
                    "a fusion would look at media of other conversations in a packed row; leave "
                    "`pack` out of the data"
                )
            self.chain.language_model.check_packing()
        decoders = self.chain.decoders
        self._features = self._cache_of(self.chain.features_fingerprint())
        self._targets = {m: self._cache_of(d.fingerprint()[:16]) for m, d in decoders.items()}
        self._latents = (
            {m: self._cache_of(d.latents_fingerprint()) for m, d in decoders.items()}
            if self.needs_latents
            else {}
        )
        sources = [*(self.train if stage == "fit" else []), *self.validation]
        for source in sources:
            source.prepare(self.chain)
        if self.cache is None:
            return
        shown = [] if self.learns_encoder else [m for source in sources for m in source.media()]
        asked = [medium for source in sources for medium in source.captions()]
        for want, media in (
            (self._wanted_features, shown),
            (self._wanted_targets, asked),
            (self._wanted_latents, asked if self.needs_latents else []),
        ):
            for modality in {medium.modality for medium in media}:
                want(modality, [each for each in media if each.modality == modality]).build()

    def _cache_of(self, fingerprint: str) -> TensorCache:
        if self.cache is None:
            return TensorCache(None, fingerprint)
        # Without a suffix where the type is that of the parts themselves.
        dtype = None if self.cache == "float32" else getattr(torch, self.cache)
        return TensorCache(cache_dir() / "features", fingerprint, dtype)

    def features(self, modality: Modality, media: list[Medium]) -> Tensor:
        """Encoder features (V, N, D_enc) of all views, from the cache where they are there."""
        shape = self.chain.encoder.feature_shape(self.chain.partition.seen_as(modality))
        found = self._wanted_features(modality, media).tensors()
        return torch.cat([tensor.reshape(-1, *shape) for tensor in found])

    def values(self, modality: Modality, media: list[Medium]) -> Tensor:
        """What the encoder takes of media of one modality, (V, ...) float32."""
        return torch.cat([self.chain.preprocess(medium) for medium in media])

    def targets(self, modality: Modality, media: list[Medium]) -> Tensor:
        """Target conditioning (n, L, C) of the media's captions, from the cache likewise.

        Raises:
            ValueError: a medium that the model should learn to ask for has no caption.
        """
        return torch.stack(self._wanted_targets(modality, media).tensors())

    def latents(self, modality: Modality, media: list[Medium]) -> Tensor:
        """Latents (n, ...) of the media as their decoder makes them, from the cache likewise.

        Raises:
            ValueError: a medium cannot be read.
        """
        return torch.stack(self._wanted_latents(modality, media).tensors())

    def _wanted_features(self, modality: Modality, media: list[Medium]) -> Wanted:
        def compute(indices: list[int]) -> list[Tensor]:
            features = self.chain.encode([media[index] for index in indices])
            return [each.cpu() for each in features]

        keys = [medium.content_hash() for medium in media]
        return Wanted(self._features, keys, compute, f"{modality} features")

    def _wanted_targets(self, modality: Modality, media: list[Medium]) -> Wanted:
        captions = []
        for medium in media:
            if medium.caption is None:
                raise ValueError(f"{medium.name}: has no caption to learn from")
            captions.append(medium.caption)
        decoder = self.chain.decoders[modality]

        def compute(indices: list[int]) -> Tensor:
            return decoder.encode_text([captions[index] for index in indices]).cpu()

        keys = [text_key(caption) for caption in captions]
        return Wanted(self._targets[modality], keys, compute, f"{modality} conditioning")

    def _wanted_latents(self, modality: Modality, media: list[Medium]) -> Wanted:
        decoder = self.chain.decoders[modality]

        def compute(indices: list[int]) -> Tensor:
            return decoder.latents([media[index] for index in indices]).cpu()

        keys = [medium.content_hash() for medium in media]
        return Wanted(self._latents[modality], keys, compute, f"{modality} latents")

    def _plan(self, conversation: Conversation) -> SequencePlan:
        return self.chain.prompter.training_plan(conversation)

    def _drawn(self, index: int) -> SequencePlan:
        return self._plan(self.mixture[index % len(self.mixture)])

    def _of_source(self, number: int, index: int) -> SequencePlan:
        plan = self._plan(self.train[number].conversation(index % len(self.mixture)))
        # Gradients of a step are averaged over its batches; of that many one is of this source.
        plan.weight = self.mixture.weights[number] * len(self.train)
        return plan

    def _collate(self, plans: list[SequencePlan]) -> ChainBatch:
        latents = self.latents if self.needs_latents else None
        if not self.learns_encoder:
            return collate(plans, self.features, self.targets, latents, pack=self.pack)
        batch = collate(plans, self.values, self.targets, latents, pack=self.pack)
        batch.values, batch.features = batch.features, {}
        return batch

    def train_dataloader(self) -> DataLoader:
        """Endless batches of the training mixture."""
        return DataLoader(self.batches, batch_size=None, collate_fn=self._collate)

    def val_dataloader(self) -> DataLoader:
        """The same conversations at every validation."""
        mixture = Mixture(self.validation, None, self.seed + 1, self.num_validation)
        return DataLoader(
            mixture,
            self.batch_size,
            collate_fn=lambda conversations: self._collate([self._plan(c) for c in conversations]),
        )

    def predict_dataloader(self) -> DataLoader:
        """One conversation a batch, from the requests file.

        Raises:
            ValueError: no file is named, or a line of it is not a conversation.
        """
        if self.requests is None:
            raise ValueError("predict answers a file: give it with --data.requests FILE")
        # A DataLoader takes any sequence; its annotation knows only Datasets.
        requests = cast(Dataset, read_requests(self.requests))
        return DataLoader(requests, None, collate_fn=lambda request: request)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch; requests stay where they are."""
        if not isinstance(batch, ChainBatch):
            return batch
        return batch.to(device)

    def provenance(self) -> list[dict[str, Any]]:
        """What a checkpoint's record says of the training data."""
        return [source.provenance() for source in self.train]

    def state_dict(self) -> dict[str, Any]:
        """Which batches training has seen."""
        assert self.trainer is not None, "a checkpoint is a trainer's"
        step = self.trainer.global_step
        batches = (step - self.first_step) * self.trainer.accumulate_grad_batches
        return {"place": self.batches.place(batches), "step": step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches seen."""
        self.batches.go_to(state["place"])
        self.first_step = state["step"]
