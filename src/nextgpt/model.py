"""The chain: encoder, connector, language model, output projections, decoders."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nextgpt.batch import ChainBatch
from nextgpt.bridges import Assembler, Connector, Fusion, LinearConnector, Partition
from nextgpt.decoders import Decoder
from nextgpt.encoders import Encoder
from nextgpt.input_side import InputSide
from nextgpt.language_model import LanguageModel
from nextgpt.losses import chunked_cross_entropy
from nextgpt.modality import Modality
from nextgpt.placement import Placement
from nextgpt.projections import OutputProjection
from nextgpt.prompting import IGNORED, Prompter

RunStates = dict[Modality, tuple[Tensor, Tensor]]
"""By modality, states and input embeddings, (n, S, D) each, in the order of a batch's runs."""


RETRAINABLE = ("language_model", "encoder")
"""Published parts whose own weights may train as well."""


class ChainOutput(NamedTuple):
    """What one pass over a batch yields.

    Attributes:
        cross_entropy: Scalar, mean of the learned tokens.
        labels: (n,) int64 of the learned tokens.
        states: (n, D) that they are scored from.
        conditioning: By modality of the decoders, (n, L, C) float32 in the order of the batch's
            runs; n is 0 where there are none.
        score: Maps (..., D) states to (..., V + S) float32 logits.
    """

    cross_entropy: Tensor
    labels: Tensor
    states: Tensor
    conditioning: dict[Modality, Tensor]
    score: Callable[[Tensor], Tensor]

    @property
    def logits(self) -> Tensor:
        """Logits of all learned tokens at once, (n, V + S) float32, computed at every call."""
        return self.score(self.states)


class NextGPTModel(InputSide):
    """All parts in a row; no Lightning, no files.

    Media come in by partition, encoder, connector and assembler, into the sequence or to a fusion
    inside of the language model. ``trainable_parts`` names what may train; everything else is
    frozen always.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        encoder: Encoder,
        decoders: dict[str, Decoder],
        num_signal_tokens: dict[str, int],
        partition: Callable[[int], Partition] = Partition,
        connector: Callable[[int, int], Connector] = LinearConnector,
        assembler: Callable[[int], Assembler] = Assembler,
        fusion: Callable[[int, int, int], Fusion] | None = None,
        output_projection: Callable[[int, int, tuple[int, int]], OutputProjection] = (
            OutputProjection
        ),
    ) -> None:
        """Join the parts.

        Args:
            language_model: Writes text and signal tokens.
            encoder: See ``InputSide``, as for all that comes between it and the language model.
            decoders: Turn conditioning into media, by modality.
            num_signal_tokens: Length of a run, by modality, for exactly those in ``decoders``.
            partition: See ``InputSide``.
            connector: See ``InputSide``.
            assembler: See ``InputSide``.
            fusion: See ``InputSide``.
            output_projection: Called with the language model's width, the length of a run and
                the decoder's conditioning shape.

        Raises:
            ValueError: decoders and signal tokens differ, or the input side does not fit.
        """
        super().__init__(encoder, language_model, partition, connector, assembler, fusion)
        if set(decoders) != set(num_signal_tokens):
            raise ValueError(
                f"decoders are given for {sorted(decoders)} but num_signal_tokens for "
                f"{sorted(num_signal_tokens)}; name the same modalities in both"
            )
        self.decoders = {Modality(name): decoder for name, decoder in decoders.items()}
        signals = {Modality(name): count for name, count in num_signal_tokens.items()}
        language_model.add_signal_tokens(signals)
        width = language_model.hidden_size
        self.output_projections = nn.ModuleDict(
            {
                modality: output_projection(
                    width, signals[modality], self.decoders[modality].conditioning_shape
                )
                for modality in language_model.signals.modalities
            }
        )
        self.prompter = Prompter(
            language_model.tokenizer,
            language_model.template,
            language_model.signals,
            self.measure,
            language_model.max_length,
        )
        self.retrained: set[str] = set()
        """Of ``RETRAINABLE``, those that are no longer as they were published."""
        self.requires_grad_(False)

    def place(self, placement: Placement) -> None:
        """Bring the parts where they compute or rest, for ``NextGPT``; training does so itself."""
        placement.settle(
            {
                "encoder": [self.encoder],
                "language_model": [self.language_model],
                "decoders": list(self.decoders.values()),
                "projections": list(self.projections.values()),
            }
        )
        self.placement = placement

    @property
    def projections(self) -> dict[str, nn.Module]:
        """What the chain itself is made of, by name: everything between the frozen parts."""
        parts = {
            "input_projection": self.input_projection,
            "assembler": self.assembler,
            "output_projections": self.output_projections,
        }
        return parts if self.fusion is None else parts | {"fusion": self.fusion}

    def trainable_parts(self) -> dict[str, dict[str, nn.Parameter]]:
        """Parameters that may train, by part and by name."""
        language_model = self.language_model
        return {
            **{name: dict(part.named_parameters()) for name, part in self.projections.items()},
            "signal_rows": dict(language_model.signal_rows.named_parameters()),
            "lora": language_model.lora_parameters(),
            "language_model": language_model.own_parameters(),
            "encoder": dict(self.encoder.named_parameters()),
        }

    def set_trainable(self, parts: list[str]) -> None:
        """Train exactly these parts and freeze all else.

        Raises:
            ValueError: a part is unknown, or cannot train.
        """
        known = self.trainable_parts()
        if unknown := sorted(set(parts) - set(known)):
            raise ValueError(
                f"cannot train {', '.join(unknown)}; the trainable parts are {', '.join(known)}"
            )
        if "language_model" in parts:
            self.language_model.check_trainable("lora" in parts)
        if "lora" in parts:
            self.language_model.add_lora()
        self.retrained |= set(RETRAINABLE) & set(parts)
        self.requires_grad_(False)
        for part in parts:
            for parameter in self.trainable_parts()[part].values():
                parameter.requires_grad_(True)

    def project(self, modality: Modality, states: Tensor, embeds: Tensor) -> Tensor:
        """Conditioning (n, L, C) of n runs from their (n, S, D) states and embeddings."""
        return self.output_projections[modality](states.float(), embeds.float())

    def forward(self, batch: ChainBatch) -> ChainOutput:
        """Score the learned tokens and project every signal run.

        Every part takes part in every pass, if only with zero media: ranks that train together
        wait for the gradients of all that train, whatever their batches hold.
        """
        states, inputs_embeds = self._read(batch)
        # NOTE: the output table is a fifth of the micro model; only learned positions pay for it.
        at_learned = batch.labels[:, 1:] != IGNORED
        learned, labels = states[:, :-1][at_learned], batch.labels[:, 1:][at_learned]
        score = self.language_model.logits
        cross_entropy = chunked_cross_entropy(learned, labels, score)
        conditioning = self.project_runs(self._at_runs(batch, states, inputs_embeds))
        return ChainOutput(cross_entropy, labels, learned, conditioning, score)

    def drift(self, batch: ChainBatch) -> tuple[Tensor, Tensor]:
        """Score what follows every token of a batch of text, with the adapter and without it.

        Returns:
            (n, V + S) and (n, V) float32 logits of n tokens, the latter without gradient.
        """
        model = self.language_model
        states, embeds = self._read(batch)
        is_followed = batch.attention_mask[:, 1:] == 1
        with torch.no_grad(), model.without_lora():
            frozen = model(embeds.detach(), batch.attention_mask)[:, :-1][is_followed]
            words = model.logits(frozen)[:, : model.vocabulary_size]
        return model.logits(states[:, :-1][is_followed]), words

    def read_runs(self, batch: ChainBatch) -> RunStates:
        """Run the language model alone and return what ``project_runs`` takes."""
        return self._at_runs(batch, *self._read(batch))

    def project_runs(self, runs: RunStates) -> dict[Modality, Tensor]:
        """Conditioning (n, L, C) of every modality's runs."""
        return {modality: self.project(modality, *pair) for modality, pair in runs.items()}

    def _read(self, batch: ChainBatch) -> tuple[Tensor, Tensor]:
        embeds, context = self.assemble(batch)
        if not batch.slots:
            nothing = self.assembler(self._nothing(), []).sum()
            embeds = embeds + nothing.to(embeds.dtype)
        states = self.read(embeds, batch.attention_mask, context, position_ids=batch.position_ids)
        return states, embeds

    def _at_runs(self, batch: ChainBatch, states: Tensor, embeds: Tensor) -> RunStates:
        found = {}
        signals = self.language_model.signals
        for modality in signals.modalities:
            runs = batch.runs.get(modality)
            if runs is None:
                runs = batch.input_ids.new_zeros((0, 2))
            rows, starts = runs.unbind(1)
            positions = starts.unsqueeze(1) + torch.arange(
                signals.num_signal_tokens[modality], device=starts.device
            )
            at = (rows.unsqueeze(1), positions)
            found[modality] = (states[at], embeds[at])
        return found
