"""The language model with its signal rows and LoRA; the only place that imports peft."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextgpt.base_model import described_directory, model_of, tokenizer_of
from nextgpt.modality import Modality
from nextgpt.prompting import template_of
from nextgpt.signals import SignalVocabulary


@dataclass
class LoraOptions:
    """Size and place of the LoRA adapter."""

    rank: int = 32
    """Rank of the two factors."""
    alpha: int = 32
    """The update is scaled by alpha / rank."""
    dropout: float = 0.1
    """Dropout on the adapter's input in training."""
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"]
    )
    """Names of the linear layers that get an adapter."""


class LanguageModel(nn.Module):
    """Any causal language model of transformers, frozen, with trainable signal rows.

    Signal tokens are extra rows behind the model's own embedding table, which is neither resized
    nor changed; where input and output tables are tied, one set of rows serves both.
    """

    def __init__(
        self,
        source: str,
        template: str = "chatml",
        max_length: int = 1024,
        lora: LoraOptions | None = None,
        dtype: str = "float32",
        quantization: Literal["8bit", "4bit"] | None = None,
    ) -> None:
        """Load the frozen model and its tokenizer.

        Args:
            source: Where the model comes from, see ``nextgpt.sources``.
            template: Prompt template, a key of ``nextgpt.prompting.TEMPLATES``.
            max_length: Tokens of a sequence at most.
            lora: The adapter's options; it is added when something trains or loads it.
            dtype: Precision of the frozen weights.
            quantization: Hold the frozen weights in ``8bit`` or ``4bit``: training only, on a GPU.

        Raises:
            ValueError: the quantization is unknown, or not possible here.
        """
        super().__init__()
        folder = described_directory(source)
        self.source = source
        self.template = template
        self.max_length = max_length
        self.lora_options = lora or LoraOptions()
        self.tokenizer = tokenizer_of(folder)
        self.quantization = quantization
        self.llm = model_of(folder, getattr(torch, dtype), quantization)
        # NOTE: peft writes this name into adapters; a folder in somebody's cache helps nobody.
        self.llm.name_or_path = source
        self.llm.requires_grad_(False)
        table = self.llm.get_input_embeddings().weight
        self.hidden_size: int = table.shape[1]
        self.vocabulary_size: int = table.shape[0]
        self.tied: bool = self.llm.get_output_embeddings().weight is table
        self._peft = None

    def add_signal_tokens(self, num_signal_tokens: Mapping[Modality, int]) -> None:
        """Append the rows of signal tokens and template's markers, each near the table's mean."""
        markers = template_of(self.template).markers
        self.signals = SignalVocabulary(self.vocabulary_size, num_signal_tokens, markers)
        tables = {"input": self.llm.get_input_embeddings().weight}
        if not self.tied:
            tables["output"] = self.llm.get_output_embeddings().weight
        generator = torch.Generator().manual_seed(0)
        self.signal_rows = nn.ParameterDict()
        for name, table in tables.items():
            table = table.float()
            noise = torch.randn(
                len(self.signals), self.hidden_size, generator=generator, device="cpu"
            ).to(table.device)
            self.signal_rows[name] = nn.Parameter(table.mean(0) + 0.5 * table.std() * noise)

    def add_lora(self) -> None:
        """Wrap the chosen linear layers with LoRA, which changes nothing until it is trained."""
        from peft import get_peft_model

        if self._peft is not None:
            return
        config = _lora_config(self.lora_options, self.source)
        # NOTE: peft changes self.llm in place; a plain attribute keeps its parameters from being
        # registered a second time.
        object.__setattr__(self, "_peft", get_peft_model(self.llm, config))

    def save_lora(self, folder: Path) -> None:
        """Write the adapter, as float16, as a directory for ``PeftModel.from_pretrained``."""
        from safetensors.torch import load_file, save_file

        assert self._peft is not None
        options = self._peft.peft_config["default"]
        # NOTE: peft keeps a set, which is written in another order every time.
        options.target_modules = sorted(options.target_modules)
        self._peft.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # NOTE: peft's model card says nothing of this model.
        file = folder / "adapter_model.safetensors"
        halves = {name: tensor.half() for name, tensor in load_file(file).items()}
        save_file(halves, file, metadata={"format": "pt"})

    def load_lora(self, folder: Path) -> None:
        """Read an adapter directory; its own options replace the configured ones.

        Raises:
            ValueError: it was trained on another model, or its keys do not fit.
        """
        from peft import LoraConfig
        from safetensors.torch import load_file

        # NOTE: peft takes a relative path for the name of a repository.
        config = LoraConfig.from_pretrained(folder.resolve())
        self.lora_options = LoraOptions(
            config.r, config.lora_alpha, config.lora_dropout, sorted(config.target_modules)
        )
        self.add_lora()
        weights = load_file(folder / "adapter_model.safetensors")
        renamed = {self._adapter_key(key): value for key, value in weights.items()}
        load_exactly(self.lora_parameters(), renamed, folder / "adapter_model.safetensors")

    @staticmethod
    def _adapter_key(key: str) -> str:
        stem = key.removeprefix("base_model.model.").removesuffix(".weight")
        return f"{stem}.default.weight"

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's parameters by their name in the language model."""
        return {name: p for name, p in self.llm.named_parameters() if ".lora_" in name}

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """The published weights by their name in the language model, without the adapter's."""
        return {
            name.replace(".base_layer.", "."): parameter
            for name, parameter in self.llm.named_parameters()
            if ".lora_" not in name
        }

    def check_trainable(self, beside_lora: bool) -> None:
        """Refuse to train the published weights themselves where that is not possible.

        Args:
            beside_lora: Whether an adapter is to train as well.

        Raises:
            ValueError: saying why.
        """
        remedy = "take language_model out of trains, or"
        if beside_lora or self._peft is not None:
            raise ValueError(f"language_model cannot train beside its adapter; {remedy} lora")
        if self.quantization is not None:
            raise ValueError(
                f"weights in {self.quantization} cannot train; {remedy} leave quantization out"
            )
        dtype = next(iter(self.own_parameters().values())).dtype
        if dtype != torch.float32:
            raise ValueError(
                f"weights in {str(dtype).removeprefix('torch.')} are too coarse to train; {remedy} "
                "set dtype: float32 of the language model"
            )

    def merge_lora(self) -> None:
        """Add the adapter to the frozen weights, which saves a third of the time of writing.

        The adapter's own parameters stay as they are; ``without_lora`` takes it out again.
        """
        if self._peft is not None:
            self._peft.merge_adapter()

    def as_transformers(self) -> tuple[Any, Any]:
        """Put adapter and rows into the model, names of the rows into the tokenizer.

        Signal tokens and markers get the tokenizer's next ids: those of ``signals`` where the
        tokenizer has as many entries as the table has rows. What is left of this object is of no
        use.

        Returns:
            A model and a tokenizer of transformers that need nextgpt no more.

        Raises:
            ValueError: the tokenizer has an entry of the same name.
        """
        names = self.signals.names
        if known := sorted(set(names) & set(self.tokenizer.get_vocab())):
            raise ValueError(f"{self.source}: the tokenizer has an entry {known[0]!r} already")
        self.tokenizer.add_tokens(names, special_tokens=True)
        ids = self.tokenizer.convert_tokens_to_ids(names)
        llm = self.llm if self._peft is None else self._peft.merge_and_unload()
        llm.resize_token_embeddings(max(self.vocabulary_size, max(ids) + 1), mean_resizing=False)
        tables = {"input": llm.get_input_embeddings(), "output": llm.get_output_embeddings()}
        with torch.no_grad():
            for name, rows in self.signal_rows.items():
                table = tables[name].weight
                # Rows that the tokenizer skips are never read, but would be random.
                table[self.vocabulary_size :] = 0
                table[ids] = rows.to(table.dtype)
        return llm, self.tokenizer

    @contextmanager
    def without_lora(self) -> Iterator[None]:
        """Let the frozen model speak alone inside the block."""
        with nullcontext() if self._peft is None else self._peft.disable_adapter():
            yield

    def embed(self, input_ids: Tensor) -> Tensor:
        """Look up input embeddings of words and signal tokens; (B, T) -> (B, T, D)."""
        is_signal = input_ids >= self.vocabulary_size
        words = self.llm.get_input_embeddings()(input_ids.masked_fill(is_signal, 0))
        rows = self.signal_rows["input"][(input_ids - self.vocabulary_size).clamp_min(0)]
        return torch.where(is_signal.unsqueeze(-1), rows.to(words.dtype), words)

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values=None,  # noqa: ANN001  a transformers Cache
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Run the layers.

        Args:
            inputs_embeds: (B, T, D).
            attention_mask: (B, past + T), 1 where there is a token; all by default. Gaps may stand
                anywhere: positions count tokens alone.
            past_key_values: A cache to read and extend.
            position_ids: (B, T) of rows that hold several sequences, see `check_packing`; takes
                the place of the mask.

        Returns:
            (B, T, D) states of the last layer, after the final norm.
        """
        if position_ids is not None:
            # NOTE: transformers looks for several sequences only where there is no mask.
            attention_mask = None
        elif attention_mask is not None:
            counted = attention_mask.cumsum(dim=1) - 1
            position_ids = counted.clamp_min(0)[:, -inputs_embeds.shape[1] :]
        return (
            self.llm.get_decoder()(
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=past_key_values is not None,
            )
        ).last_hidden_state

    @torch.no_grad()
    def check_packing(self) -> None:
        """Make sure that sequences which share a row do not see each other.

        transformers tells them apart by their positions, for most architectures and kinds of
        attention; for others they would leak into each other without a word.

        Raises:
            ValueError: the states of two sequences in a row differ from those of each alone.
        """
        embeds = self.embed(torch.arange(12, device=self.signal_rows["input"].device).view(2, 6))
        first, second = embeds[:, :2], embeds[:, 2:]
        alone = torch.cat([self(first), self(second)], dim=1)
        positions = torch.tensor([0, 1, 0, 1, 2, 3], device=embeds.device).repeat(2, 1)
        together = self(embeds, position_ids=positions)
        worst = float((together - alone).abs().max() / alone.abs().max())
        if worst > 0.05:  # bfloat16 rounds by 0.01
            raise ValueError(
                f"{type(self.llm).__name__} cannot tell sequences in one row apart (states differ "
                f"by {worst:.0%}); leave `pack` out of the data"
            )

    def checkpoint_activations(self) -> None:
        """Keep only the input of each layer for the backward pass, which computes the rest anew.

        Raises:
            ValueError: the architecture cannot.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        self.llm.activation_checkpointing_enable()
        for module in self.llm.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # NOTE: only layers in training do it, and a model is loaded for evaluation; of this
                # module alone, so that no dropout inside wakes up.
                module.training = True

    def logits(self, states: Tensor) -> Tensor:
        """Score words and signal tokens; (..., D) -> (..., V + S) float32."""
        rows = self.signal_rows["input" if self.tied else "output"]
        words = self.llm.get_output_embeddings()(states)
        return torch.cat([words.float(), states.float() @ rows.T], dim=-1)


def _lora_config(options: LoraOptions, source: str) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.target_modules,
        task_type="CAUSAL_LM",
        base_model_name_or_path=source,
    )


def write_adapter(
    folder: Path, weights: Mapping[str, Tensor], options: LoraOptions, source: str
) -> None:
    """Write an adapter directory as ``LanguageModel.save_lora`` does, without the model.

    Args:
        folder: Is made.
        weights: By their names in the model, ending in ``.lora_A.weight`` or ``.lora_B.weight``.
        options: What they were trained with.
        source: The model that they belong to.
    """
    from safetensors.torch import save_file

    config = _lora_config(options, source)
    config.inference_mode = True
    config.target_modules = sorted(options.target_modules)
    config.save_pretrained(folder)
    named = {f"base_model.model.{name}": value for name, value in weights.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def load_exactly(
    parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], file: Path
) -> None:
    """Copy weights into parameters of the same names and shapes.

    Raises:
        ValueError: naming the file and every missing, unexpected or misshapen key.
    """
    missing = sorted(set(parameters) - set(weights))
    unexpected = sorted(set(weights) - set(parameters))
    misshapen = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(parameters[key].shape)}"
        for key in sorted(set(parameters) & set(weights))
        if weights[key].shape != parameters[key].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    found = [f"{kind}: {', '.join(keys)}" for kind, keys in faults.items() if keys]
    if found:
        raise ValueError(
            f"{file} does not fit this model; {'; '.join(found)}. Use the configuration and base "
            "model that it was trained with"
        )
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(weights[key])
