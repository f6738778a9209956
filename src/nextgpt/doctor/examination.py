"""Builds a chain without weights and finds what would keep a run from starting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nextgpt import checkpoint, configuration, sources
from nextgpt.architectures import UNKNOWN, Licence, fetched_bytes, licence_of
from nextgpt.base_model import quantised
from nextgpt.doctor.answering import answering_memory
from nextgpt.doctor.memory import (
    PICTURE_SIZE,
    Models,
    num_bytes,
    spared_bytes,
    training_memory,
)
from nextgpt.doctor.report import Part, Report, Seam, StageFacts
from nextgpt.model import RETRAINABLE, NextGPTModel


@dataclass
class StagePlan:
    """What a stage's configuration asks for."""

    name: str
    chain: dict[str, Any] | None
    """The chain's configuration; None of a stage that trains a part, which is not examined."""
    trains: list[str] = field(default_factory=list)
    start_from: Path | None = None
    grow: bool = False
    new_bridge: bool = False
    output: Path | None = None
    batch_size: int = 1
    length: int | None = None
    """Tokens of a conversation; ``max_length`` of the language model by default."""
    precision: str = "32-true"
    files: list[Path] = field(default_factory=list)
    """What its data are read from."""
    denoises: bool = False
    """Whether it has a denoising loss."""
    checkpointing: bool = False
    """Whether the language model keeps only the input of each layer for the backward pass."""


class Examination:
    """Examines the stages of one configuration in their order.

    Args:
        plans: The stages.
        ask_hub: Whether sources that are not here are asked for, to see if they can be fetched.
    """

    def __init__(self, plans: Sequence[StagePlan], ask_hub: bool = True) -> None:
        self.plans, self.ask_hub = plans, ask_hub
        self.report = Report()
        self._written: set[Path] = set()
        self._chains: list[tuple[dict[str, Any], NextGPTModel | None]] = []
        self._models: dict[int, Models] = {}

    def check(self) -> Report:
        """Find what would keep the stages from starting, and nothing that takes long to measure."""
        for plan in self.plans:
            self._check(plan)
        return self.report

    def measure(self) -> Report:
        """Describe parts, stages and memory as well."""
        for plan in self.plans:
            # In turn, because a stage's adapter stays in the chain for the stages behind it.
            self._check(plan)
            chain = None if plan.chain is None else self._chain(plan.chain)
            if chain is None or set(plan.trains) - set(chain.trainable_parts()):
                continue
            with torch.device("meta"):
                if not self.report.parts:
                    models = self._models_of(chain)
                    self._describe(chain, models)
                    self.report.placements = list(answering_memory(chain, models))
                self.report.stages.append(self._stage(plan, chain))
        return self.report

    def _models_of(self, chain: NextGPTModel) -> Models:
        """Build the models of a chain's decoders without weights, once."""
        if id(chain) not in self._models:
            self._models[id(chain)] = {
                modality: decoder.models_without_weights()
                for modality, decoder in chain.decoders.items()
            }
        return self._models[id(chain)]

    def _check(self, plan: StagePlan) -> None:
        if plan.chain is None:
            self.report.notes.append(f"stage {plan.name} trains a part and is not examined")
        else:
            self._look_for_files(plan)
            chain = self._chain(plan.chain)
            if chain is not None:
                self._start(plan, chain)
        if plan.output is not None:
            self._written.add(Path(plan.output).resolve())

    def _chain(self, config: dict[str, Any]) -> NextGPTModel | None:
        """Build a chain without weights, once; None where it cannot be."""
        for known, chain in self._chains:
            if known == config:
                return chain
        chain = None
        try:
            with torch.device("meta"):
                chain = configuration.build(config)
        except ValueError as error:
            self.report.trouble(str(error))
        self._chains.append((config, chain))
        for source in _sources_of(config):
            self._look_for(source)
        if chain is not None:
            with torch.device("meta"):
                self._join(chain)
        return chain

    def _look_for_files(self, plan: StagePlan) -> None:
        for file in plan.files:
            if not file.exists():
                self.report.trouble(f"{file} is missing: training data are read from it")

    def _look_for(self, source: str) -> None:
        """Say whether a source is here, and if not, whether it can be fetched."""
        if Path(source).resolve() in self._written:
            return
        here = sources.present(source)
        if here is not None:
            if lacking := sources.lacks_weights(here) if here.is_dir() else None:
                self.report.trouble(f"{lacking} has no weights: fetch {source} again")
        elif sources.repository(source) is None:
            try:
                sources.resolve(source)
            except ValueError as error:
                self.report.trouble(str(error))
        elif self.ask_hub and source.startswith("hf:"):
            try:
                self._remote[source] = sum(sources.remote_files(source).values())
            except ValueError as error:
                self.report.trouble(str(error))

    @cached_property
    def _remote(self) -> dict[str, int]:
        """Bytes that the hub says a source takes."""
        return {}

    def _join(self, chain: NextGPTModel) -> None:
        """Compare what the parts give with what their neighbours take."""
        seams = []
        width = chain.language_model.hidden_size
        for modality in chain.reads:
            layout = chain.layout(modality, PICTURE_SIZE)
            shape = chain.encoder.feature_shape(chain.partition.seen_as(modality))
            features = torch.empty(layout.num_views, layout.frames_per_view * shape[0], shape[1])
            tokens = chain.input_projection.connect(features, [layout], [""])
            given = tuple(chain.assembler(tokens, [layout]).shape)
            takes = (chain.num_tokens(modality, PICTURE_SIZE), width)
            seams.append(Seam(f"{modality}: input projection to language model", given, takes))
        for modality, decoder in chain.decoders.items():
            length = chain.language_model.signals.num_signal_tokens[modality]
            states = torch.empty(1, length, width)
            given = tuple(chain.output_projections[modality].eval()(states, states).shape[1:])
            seams.append(
                Seam(f"{modality}: output projection to decoder", given, decoder.conditioning_shape)
            )
        tokenizer = chain.language_model.tokenizer
        if tokenizer is not None and len(tokenizer) > chain.language_model.vocabulary_size:
            self.report.trouble(
                f"the tokenizer of {chain.language_model.source} has {len(tokenizer)} tokens, its "
                f"model {chain.language_model.vocabulary_size}: they do not belong together"
            )
        for seam in seams:
            if seam.fits or seam in self.report.seams:
                continue
            self.report.trouble(
                f"{seam.name}: the one gives {seam.gives}, the other takes {seam.takes}; make them "
                "equal in the configuration"
            )
        self.report.seams += [seam for seam in seams if seam not in self.report.seams]

    def _start(self, plan: StagePlan, chain: NextGPTModel) -> None:
        """Check what a stage trains and what it starts from."""
        try:
            with torch.device("meta"):
                chain.set_trainable(plan.trains)
                if plan.start_from is None or Path(plan.start_from).resolve() in self._written:
                    return
                if not Path(plan.start_from).is_dir():
                    self.report.trouble(
                        f"{plan.start_from} is missing: {plan.name} starts from it; run the stage "
                        "that writes it first"
                    )
                    return
                checkpoint.load_trained(chain, Path(plan.start_from), plan.grow, plan.new_bridge)
        except ValueError as error:
            self.report.trouble(str(error))

    def _describe(self, chain: NextGPTModel, models: Models) -> None:
        """List the frozen parts."""
        language_model = chain.language_model
        adapter = set(map(id, language_model.lora_parameters().values()))
        frozen = [p for p in language_model.llm.parameters() if id(p) not in adapter]
        size = sum(p.numel() for p in frozen)
        in_memory = sum(p.nbytes for p in frozen) - spared_bytes(language_model)
        self._add_part("language model", language_model.source, size, in_memory, 2 * size)
        encoder = chain.encoder
        size = sum(p.numel() for p in encoder.parameters())
        source = str(getattr(encoder, "source", ""))
        self._add_part("encoder", source, size, num_bytes(encoder), 4 * size)
        for modality, decoder in chain.decoders.items():
            parts = models[modality].values()
            size = sum(p.numel() for part in parts for p in part.parameters())
            in_memory = sum(num_bytes(part, decoder.dtype) for part in parts)
            self._add_part(f"{modality} decoder", decoder.source, size, in_memory, 4 * size)

        try:
            quantised(language_model.quantization)
        except ValueError as error:
            self.report.notes.append(f"here the language model would not load: {error}")

    def _add_part(self, name: str, source: str, size: int, in_memory: int, stored: int) -> None:
        here = not source or sources.present(source) is not None
        known = sources.repository(source) is not None
        licence: Licence = licence_of(source) if source else UNKNOWN
        state = "here" if here else "to fetch" if known else "missing"
        fetched = 0 if here else self._remote.get(source) or fetched_bytes(source) or stored
        self.report.parts.append(Part(name, source, licence, state, size, in_memory, fetched))
        if licence == UNKNOWN:
            self.report.notes.append(f"the licence of the {name} is unknown: {source}")
        if licence.commercial == "no":
            self.report.notes.append(f"the {name} is not for commercial use ({licence.name})")

    def _stage(self, plan: StagePlan, chain: NextGPTModel) -> StageFacts:
        chain.set_trainable(plan.trains)
        trained: dict[str, int] = {}
        frozen = {part.name: part.num_parameters for part in self.report.parts}
        for part, parameters in chain.trainable_parts().items():
            counts = trained if part in plan.trains else frozen
            if part in RETRAINABLE:
                if counts is frozen:
                    continue  # It is listed already.
                del frozen[part.replace("_", " ")]
            if part == "output_projections":
                for modality, projection in chain.output_projections.items():
                    counts[f"{part}.{modality}"] = sum(p.numel() for p in projection.parameters())
            else:
                counts[part] = sum(parameter.numel() for parameter in parameters.values())
        length = plan.length or chain.language_model.max_length
        models = self._models_of(chain) if plan.denoises else None
        memory = training_memory(
            chain,
            plan.trains,
            plan.batch_size,
            length,
            plan.precision,
            models,
            plan.checkpointing,
        )
        return StageFacts(
            plan.name, trained, frozen, plan.batch_size, length, plan.precision, memory
        )


def _sources_of(config: Any) -> list[str]:
    """Every source of frozen weights that a configuration names."""
    found: list[str] = []

    def note(value: Any) -> Any:
        if isinstance(value, str):
            found.append(value)
        return value

    configuration.with_sources(config, note)
    return found
