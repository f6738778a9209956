"""The side of the chain that reads: media to what the language model sees of them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nextgpt.batch import ChainBatch
from nextgpt.bridges import (
    Assembler,
    Connector,
    Fusion,
    LinearConnector,
    MediaContext,
    Partition,
)
from nextgpt.encoders import Encoder
from nextgpt.language_model import LanguageModel
from nextgpt.layout import Layout
from nextgpt.media import Medium
from nextgpt.modality import MODALITIES, Modality
from nextgpt.placement import Placement


class Inputs(NamedTuple):
    """What the language model reads.

    Attributes:
        embeds: (B, T, D) input embeddings, those of media in their slots.
        context: Media that a fusion looks at, where the chain has one.
    """

    embeds: Tensor
    context: MediaContext | None


class InputSide(nn.Module):
    """Partition, encoder, connector, assembler and fusion before and inside of a language model.

    Media come into the sequence, in the order that the assembler gives, or beside it to a fusion.
    The bridge of every system of `docs/bridges.md` is a choice of these five.
    """

    def __init__(
        self,
        encoder: Encoder,
        language_model: LanguageModel,
        partition: Callable[[int], Partition] = Partition,
        connector: Callable[[int, int], Connector] = LinearConnector,
        assembler: Callable[[int], Assembler] = Assembler,
        fusion: Callable[[int, int, int], Fusion] | None = None,
    ) -> None:
        """Join the parts.

        Args:
            encoder: Turns views of media into features.
            language_model: Reads.
            partition: Cuts media into views; called with the size of the encoder's pictures.
            connector: Called with the widths of features and language model.
            assembler: Called with the language model's width.
            fusion: Called with the width and the number of layers of the language model and the
                width of the connector's tokens; there is none by default.

        Raises:
            ValueError: the encoder's features differ in width, or the fusion does not fit into the
                language model.
        """
        super().__init__()
        self.partition = partition(encoder.image_size)
        self.reads = tuple(m for m in MODALITIES if self.partition.seen_as(m) in encoder.modalities)
        """The media that this model reads."""
        widths = {m: encoder.feature_shape(m)[1] for m in encoder.modalities}
        if len(set(widths.values())) != 1:
            raise ValueError(f"one connector needs features of one width, got {widths}")
        self.language_model = language_model
        self.encoder = encoder
        width = language_model.hidden_size
        self.input_projection = connector(next(iter(widths.values())), width)
        self.assembler = assembler(width)
        self.fusion: Fusion | None = None
        if fusion is not None:
            num_layers = language_model.llm.config.num_hidden_layers
            self.fusion = fusion(width, num_layers, self.input_projection.output_size)
            self.fusion.install(language_model.llm)
        self.placement = Placement()

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        return self.language_model.signal_rows["input"].device

    def layout(self, modality: Modality, size: tuple[int, int] = (0, 0)) -> Layout:
        """How a medium of some size is cut.

        Raises:
            ValueError: the model does not read this modality.
        """
        self.check(modality)
        return self.partition.layout(modality, size)

    def check(self, modality: Modality) -> None:
        """Raise ValueError unless the model reads this modality."""
        if modality not in self.reads:
            raise ValueError(
                f"this model does not read {modality}; it reads {', '.join(self.reads)}"
            )

    def num_media_tokens(self, modality: Modality, layout: Layout) -> int:
        """Positions that a medium takes in a sequence."""
        num_features, _ = self.encoder.feature_shape(self.partition.seen_as(modality))
        num_view_tokens = self.input_projection.num_tokens(num_features * layout.frames_per_view)
        return self.assembler.num_tokens(layout, num_view_tokens)

    def num_tokens(self, modality: Modality, size: tuple[int, int] = (0, 0)) -> int:
        """Positions that a medium of some width and height in pixels takes in a sequence.

        Raises:
            ValueError: the model does not read this modality.
        """
        return self.num_media_tokens(modality, self.layout(modality, size))

    def measure(self, medium: Medium) -> tuple[Layout, int]:
        """How a medium is cut, and the positions that it takes in a sequence.

        Raises:
            ValueError: the model does not read it, or nobody can.
        """
        size = self.partition.size_of(medium)
        layout = self.layout(medium.modality, size)
        return layout, self.num_media_tokens(medium.modality, layout)

    def preprocess(self, medium: Medium) -> Tensor:
        """Cut one medium and prepare its views for the encoder: (V, ...) float32.

        Raises:
            ValueError: it cannot be read, by this model or at all.
        """
        seen_as = self.partition.seen_as(medium.modality)
        self.check(medium.modality)
        views = self.partition.views(medium)
        return torch.stack([self.encoder.preprocess(seen_as, view) for view in views])

    def encode(self, media: Sequence[Medium]) -> list[Tensor]:
        """Compute the features of media of one modality, (V, N, D_enc) each.

        Raises:
            ValueError: one cannot be read, by this model or at all.
        """
        values = [self.preprocess(medium) for medium in media]
        self.placement.wake(self.encoder)
        seen_as = self.partition.seen_as(media[0].modality)
        features = self.encoder.encode(seen_as, torch.cat(values).to(self.device))
        return list(features.split([len(each) for each in values]))

    def features_fingerprint(self) -> str:
        """What changes with the features that ``encode`` computes: the key of their cache."""
        cuts = self.partition.describe()
        suffix = "-" + hashlib.sha256(cuts.encode()).hexdigest()[:8] if cuts else ""
        return self.encoder.fingerprint() + suffix

    def assemble(self, batch: ChainBatch) -> Inputs:
        """Embed the tokens and put the projected features in their slots.

        Raises:
            ValueError: a medium has more or fewer features than places; gives both numbers.
        """
        inputs_embeds = self.language_model.embed(batch.input_ids)
        seen = {modality: self._tokens(batch, modality) for modality in batch.slots}
        for modality, tokens in seen.items():
            layouts = batch.layouts[modality]
            placed = self.assembler(tokens, layouts).to(inputs_embeds.dtype)
            counts = [self.num_media_tokens(modality, each) for each in layouts]
            lengths = torch.tensor(counts, device="cpu")
            if len(placed) != sum(counts):
                raise ValueError(
                    f"{len(placed)} features of {len(layouts)} {modality} for {sum(counts)} places "
                    "in the sequences; compute them with this model's encoder and partition"
                )
            # Which medium each place belongs to, and how far behind its first place it is.
            medium = torch.arange(len(counts), device="cpu").repeat_interleave(lengths)
            firsts = lengths.cumsum(0) - lengths
            offsets = (torch.arange(len(placed), device="cpu") - firsts[medium]).to(placed.device)
            rows, starts = batch.slots[modality][medium.to(placed.device)].unbind(1)
            inputs_embeds = inputs_embeds.index_put((rows, starts + offsets), placed)
        context = None if self.fusion is None else self._context(batch, seen)
        return Inputs(inputs_embeds, context)

    def _tokens(self, batch: ChainBatch, modality: Modality) -> Tensor:
        """What the connector makes of all media of one modality, (V, M, D)."""
        layouts = batch.layouts[modality]
        features = batch.features.get(modality)
        if features is None:
            features = self.encoder(self.partition.seen_as(modality), batch.values[modality])
        num_views = sum(layout.num_views for layout in layouts)
        features = features.reshape(num_views, -1, features.shape[-1])
        return self.input_projection.connect(features, layouts, batch.texts[modality])

    def _context(self, batch: ChainBatch, seen: dict[Modality, Tensor]) -> MediaContext:
        """Gather the media of every row for the fusion, in the order in which they stand there."""
        num_rows, length = batch.input_ids.shape
        if not seen:
            nothing = self._nothing()
            empty = batch.input_ids.new_zeros(num_rows, length)
            return MediaContext(nothing.expand(num_rows, *nothing.shape), empty)
        slots = torch.cat([batch.slots[modality] for modality in seen])
        tokens = torch.cat(list(seen.values()))
        if len(tokens) != len(slots):
            raise ValueError(
                f"{len(tokens)} views of {len(slots)} media: a fusion looks at media of one view; "
                "set join_frames of the partition"
            )
        order = (slots[:, 0] * length + slots[:, 1]).argsort()
        rows, starts = slots[order].unbind(1)
        started = torch.zeros_like(batch.input_ids).index_put(
            (rows, starts), torch.ones_like(rows), accumulate=True
        )
        times = started.cumsum(dim=1)
        media = tokens.new_zeros(num_rows, int(times.max()), *tokens.shape[1:])
        media = media.index_put((rows, times[rows, starts] - 1), tokens[order])
        return MediaContext(media, times)

    def _nothing(self) -> Tensor:
        """What the connector makes of no media at all, (0, M, D).

        Ranks that train together wait for the gradients of all that trains.
        """
        seen_as = self.partition.seen_as(self.reads[0])
        num_features, width = self.encoder.feature_shape(seen_as)
        features = torch.zeros(0, num_features, width, device=self.device)
        return self.input_projection.connect(features, [], [])

    def read(
        self,
        embeds: Tensor,
        attention_mask: Tensor,
        context: MediaContext | None = None,
        cache: Any = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Run the language model, and the fusion inside of it; see ``LanguageModel.forward``.

        Args:
            embeds: (B, T, D).
            attention_mask: (B, past + T), 1 where there is a token.
            context: The media of the whole sequences, from ``assemble``.
            cache: The past, is extended.
            position_ids: (B, T) of rows that hold several sequences.

        Returns:
            (B, T, D) states of the last layer.
        """
        if self.fusion is not None:
            length = embeds.shape[1]
            past = attention_mask.shape[1] - length
            self.fusion.context = context and context.window(past, length)
        return self.language_model(embeds, attention_mask, cache, position_ids)
