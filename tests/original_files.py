"""Files as the original NExT-GPT saves them, small: its parts built of torch and of peft."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from nextgpt.modality import Modality

HIDDEN, LAYERS, HEADS, FEEDFORWARD = 16, 2, 2, 24
SIZES = {
    "hidden_size": HIDDEN,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "feedforward_size": FEEDFORWARD,
}
CONDITIONING = {Modality.IMAGE: (8, 32), Modality.VIDEO: (8, 32), Modality.AUDIO: (1, 32)}
"""Shapes of the tiny decoders."""
PREFIXES = {
    Modality.IMAGE: "gen_text_hidden_fcs.0.",
    Modality.VIDEO: "gen_text_hidden_fcs_video.0.",
    Modality.AUDIO: "gen_text_hidden_fcs_audio.0.",
}
NUM_ADDED = 38


class OriginalMapper(nn.Module):
    """The original's output projection, by its description."""

    def __init__(self, width: int, conditioning_shape: tuple[int, int]) -> None:
        super().__init__()
        length, conditioning_width = conditioning_shape
        self.fc = nn.Linear(width, HIDDEN)
        self.tfm = nn.Transformer(
            HIDDEN,
            HEADS,
            LAYERS,
            LAYERS,
            FEEDFORWARD,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )
        self.model = nn.Linear(HIDDEN, conditioning_width)
        self.query_embs = nn.Parameter(torch.zeros(1, length, HIDDEN))

    def forward(self, states: Tensor, embeds: Tensor) -> Tensor:
        queries = self.query_embs.repeat(len(states), 1, 1)
        return self.model(self.tfm(self.fc(states + embeds), queries))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the same values every time."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        yield


def randomise(module: nn.Module) -> None:
    """Give every parameter, norms too, random values that float16 holds exactly."""
    for parameter in module.parameters():
        parameter.copy_((parameter + 0.2 * torch.randn(parameter.shape)).half())


def mappers(width: int) -> dict[Modality, OriginalMapper]:
    """Random projections of all modalities."""
    found = {}
    for seed, (modality, shape) in enumerate(CONDITIONING.items()):
        with seeded(seed):
            found[modality] = OriginalMapper(width, shape).eval()
            randomise(found[modality])
    return found


def original_language_model(base: Path) -> Any:
    """The base with 38 rows more, everything that trains random, as the third stage makes it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    llm = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    size = llm.get_input_embeddings().weight.shape[0]
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    with seeded(9):
        llm.resize_token_embeddings(size + NUM_ADDED, mean_resizing=False)
        model = get_peft_model(llm, config).eval()
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape))
            parameter.copy_(parameter.half())
    return model


def language_weights(model: Any, stage: int = 3) -> dict[str, Tensor]:
    """What the original saves of its language model; before the third stage there is no adapter."""
    kept = ("embed_tokens", "lm_head", "lora_") if stage == 3 else ("embed_tokens", "lm_head")
    names = {
        name: value.detach()
        for name, value in model.named_parameters()
        if any(part in name for part in kept)
    }
    prefix = "" if stage == 3 else "base_model.model."
    return {f"llama_model.{name.removeprefix(prefix)}": value for name, value in names.items()}


def original_weights(base: Path, num_features: int = 16) -> dict[str, Tensor]:
    """All that the third stage saves."""
    model = original_language_model(base)
    width = model.get_input_embeddings().weight.shape[1]
    with seeded(8):
        projection = nn.Linear(num_features, width)
        randomise(projection)
    weights = language_weights(model)
    weights |= {f"llama_proj.{name}": value for name, value in projection.state_dict().items()}
    for modality, mapper in mappers(width).items():
        for name, value in mapper.state_dict().items():
            weights[f"{PREFIXES[modality]}{name}"] = value
    return weights


def write_file(weights: dict[str, Tensor], file: Path, **options: Any) -> Path:
    """Save as the original does, in half precision."""
    halves = OrderedDict((name, value.half()) for name, value in weights.items())
    torch.save(halves, file, **options)
    return file


def write_config(file: Path, chain: dict[str, Any]) -> Path:
    """A training configuration with a chain."""
    file.write_text(yaml.safe_dump({"model": {"init_args": {"chain": chain}}}))
    return file


def plain_chain() -> dict[str, Any]:
    """A chain that is converted but never built."""
    decoders = {
        modality: {
            "class_path": f"nextgpt.decoders.{modality.title()}Decoder",
            "init_args": {"source": f"./{modality}"},
        }
        for modality in ("image", "audio", "video")
    }
    return {
        "language_model": {"source": "./other", "template": "chatml", "lora": {"alpha": 8}},
        "encoder": {
            "class_path": "nextgpt.encoders.MicroBindEncoder",
            "init_args": {"source": "./encoder"},
        },
        "output_projection": {
            "class_path": "nextgpt.projections.OutputProjection",
            "init_args": dict(SIZES),
        },
        "num_signal_tokens": {"image": 2, "audio": 2, "video": 2},
        "decoders": decoders,
    }
