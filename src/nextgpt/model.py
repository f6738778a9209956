"""The chain: encoder, connector, language model, output projections, decoders."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nextgpt.bridges import Connector, LinearConnector
from nextgpt.decoders import Decoder
from nextgpt.encoders import Encoder
from nextgpt.language_model import LanguageModel
from nextgpt.losses import chunked_cross_entropy
from nextgpt.modality import Modality
from nextgpt.placement import Placement
from nextgpt.projections import OutputProjection
from nextgpt.prompting import IGNORED, Prompter


@dataclass
class ChainBatch:
    """Padded or packed sequences with the places of media.

    Attributes:
        input_ids: (B, T) int64, B rows.
        attention_mask: (B, T) int64, 1 where there is a token.
        labels: (B, T) int64, -100 where nothing is learned.
        slots: By modality, (n, 2) int64: row and first position of every medium seen.
        features: By modality, (n, N, D_enc) float32 in the order of ``slots``.
        runs: By modality, (n, 2) int64: row and first position of every signal run.
        targets: By modality, (n, L, C) float32 target conditioning in the order of ``runs``.
        latents: By modality, (n, C, ...) float32 latents of the media in the order of ``runs``.
        position_ids: (B, T) int64 where rows hold several sequences; they start anew with each.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    slots: dict[Modality, Tensor] = field(default_factory=dict)
    features: dict[Modality, Tensor] = field(default_factory=dict)
    runs: dict[Modality, Tensor] = field(default_factory=dict)
    targets: dict[Modality, Tensor] = field(default_factory=dict)
    latents: dict[Modality, Tensor] = field(default_factory=dict)
    position_ids: Tensor | None = None

    def to(self, device: torch.device) -> "ChainBatch":
        """Copy to a device."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: tensor.to(device) for key, tensor in value.items()}
            return value if value is None else value.to(device)

        return ChainBatch(**{each.name: moved(getattr(self, each.name)) for each in fields(self)})


RunStates = dict[Modality, tuple[Tensor, Tensor]]
"""By modality, states and input embeddings, (n, S, D) each, in the order of a batch's runs."""


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


class NextGPTModel(nn.Module):
    """All parts in a row; no Lightning, no files.

    Trainable parts have names: ``input_projection``, ``signal_rows``, ``output_projections``,
    ``lora``; everything else is frozen always.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        encoder: Encoder,
        decoders: dict[str, Decoder],
        num_signal_tokens: dict[str, int],
        connector: Callable[[int, int], Connector] = LinearConnector,
        output_projection: Callable[[int, int, tuple[int, int]], OutputProjection] = (
            OutputProjection
        ),
    ) -> None:
        """Join the parts.

        Args:
            language_model: Writes text and signal tokens.
            encoder: Turns media into features.
            decoders: Turn conditioning into media, by modality.
            num_signal_tokens: Length of a run, by modality, for exactly those in ``decoders``.
            connector: Called with the widths of features and language model.
            output_projection: Called with the language model's width, the length of a run and
                the decoder's conditioning shape.

        Raises:
            ValueError: decoders and signal tokens differ, or the encoder's widths do.
        """
        super().__init__()
        if set(decoders) != set(num_signal_tokens):
            raise ValueError(
                f"decoders are given for {sorted(decoders)} but num_signal_tokens for "
                f"{sorted(num_signal_tokens)}; name the same modalities in both"
            )
        widths = {m: encoder.feature_shape(m)[1] for m in encoder.modalities}
        if len(set(widths.values())) != 1:
            raise ValueError(f"one connector needs features of one width, got {widths}")
        self.language_model = language_model
        self.encoder = encoder
        self.decoders = {Modality(name): decoder for name, decoder in decoders.items()}
        signals = {Modality(name): count for name, count in num_signal_tokens.items()}
        language_model.add_signal_tokens(signals)
        width = language_model.hidden_size
        self.input_projection = connector(next(iter(widths.values())), width)
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
            self.num_media_tokens,
            language_model.max_length,
        )
        self.placement = Placement()
        self.requires_grad_(False)

    def place(self, placement: Placement) -> None:
        """Bring the parts where they compute or rest, for ``NextGPT``; training does so itself."""
        placement.settle(
            {
                "encoder": [self.encoder],
                "language_model": [self.language_model],
                "decoders": list(self.decoders.values()),
                "projections": [self.input_projection, self.output_projections],
            }
        )
        self.placement = placement

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        return self.language_model.signal_rows["input"].device

    def num_media_tokens(self, modality: Modality) -> int:
        """Positions that one medium takes in a sequence.

        Raises:
            ValueError: the encoder does not read this modality.
        """
        if modality not in self.encoder.modalities:
            raise ValueError(
                f"this model does not read {modality}; it reads "
                f"{', '.join(self.encoder.modalities)}"
            )
        return self.input_projection.num_tokens(self.encoder.feature_shape(modality)[0])

    def trainable_parts(self) -> dict[str, dict[str, nn.Parameter]]:
        """Parameters that may train, by part and by name."""
        return {
            "input_projection": dict(self.input_projection.named_parameters()),
            "signal_rows": dict(self.language_model.signal_rows.named_parameters()),
            "output_projections": dict(self.output_projections.named_parameters()),
            "lora": self.language_model.lora_parameters(),
        }

    def set_trainable(self, parts: list[str]) -> None:
        """Train exactly these parts and freeze all else.

        Raises:
            ValueError: a part is unknown.
        """
        known = self.trainable_parts()
        if unknown := sorted(set(parts) - set(known)):
            raise ValueError(
                f"cannot train {', '.join(unknown)}; the trainable parts are {', '.join(known)}"
            )
        if "lora" in parts:
            self.language_model.add_lora()
        self.requires_grad_(False)
        for part in parts:
            for parameter in self.trainable_parts()[part].values():
                parameter.requires_grad_(True)

    def assemble(self, batch: ChainBatch) -> Tensor:
        """Embed the tokens and put the projected features in their slots; (B, T, D).

        Raises:
            ValueError: a medium has more or fewer features than places; gives both numbers.
        """
        inputs_embeds = self.language_model.embed(batch.input_ids)
        for modality, features in batch.features.items():
            rows, starts = batch.slots[modality].unbind(1)
            projected = self.input_projection(features).to(inputs_embeds.dtype)
            if projected.shape[1] != self.num_media_tokens(modality):
                raise ValueError(
                    f"{projected.shape[1]} features of one {modality} for "
                    f"{self.num_media_tokens(modality)} places in the sequence; compute them with "
                    "this model's encoder"
                )
            positions = starts.unsqueeze(1) + torch.arange(projected.shape[1], device=starts.device)
            inputs_embeds = inputs_embeds.index_put((rows.unsqueeze(1), positions), projected)
        return inputs_embeds

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

    def read_runs(self, batch: ChainBatch) -> RunStates:
        """Run the language model alone and return what ``project_runs`` takes."""
        return self._at_runs(batch, *self._read(batch))

    def project_runs(self, runs: RunStates) -> dict[Modality, Tensor]:
        """Conditioning (n, L, C) of every modality's runs."""
        return {modality: self.project(modality, *pair) for modality, pair in runs.items()}

    def _read(self, batch: ChainBatch) -> tuple[Tensor, Tensor]:
        inputs_embeds = self.assemble(batch)
        if not batch.features:
            shape = self.encoder.feature_shape(self.encoder.modalities[0])
            nothing = self.input_projection(inputs_embeds.new_zeros((0, *shape)).float())
            inputs_embeds = inputs_embeds + nothing.sum().to(inputs_embeds.dtype)
        states = self.language_model(
            inputs_embeds, batch.attention_mask, position_ids=batch.position_ids
        )
        return states, inputs_embeds

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
