"""Time bridges beside the bare language model that they are made for.

A fusion that rests, and one that looks at a picture, beside the same language model without; and
putting media into sequences, on the micro model, beside reading these sequences. Every row is the
median of some runs of both sides, taken in turn; nothing else should run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from nextgpt.bridges import GatedCrossAttention, MediaContext
from nextgpt.collate import collate
from nextgpt.configuration import build, read_config
from nextgpt.media import Image
from nextgpt.messages import Conversation

CONFIG = Path(__file__).parents[1] / "configs" / "bridges" / "micro" / "llava.yaml"
HIDDEN, NUM_LAYERS, MEDIA, NUM_LATENTS = 576, 30, 1024, 64
NUM_SAMPLES, NUM_PICTURES = 32, 8


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def language_model() -> LlamaForCausalLM:
    """As large as SmolLM2-135M, with random weights and a small vocabulary."""
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=HIDDEN,
        intermediate_size=1536,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    return LlamaForCausalLM(config).eval()


Side = Callable[[], object]


def medians(ours: Side, theirs: Side, runs: int) -> tuple[float, float]:
    """Seconds of both sides, which take turns after a run each to warm up."""
    with torch.inference_mode():
        ours(), theirs()
        pairs = [(timed(ours), timed(theirs)) for _ in range(runs)]
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    return first, second


def assembling() -> tuple[Side, Side]:
    """Put the features of a batch into its sequences; read the sequences."""
    chain = build(read_config(CONFIG)["model"]["init_args"]["chain"]).eval()
    picture = Image(np.zeros((64, 64, 3), np.uint8))
    talk = Conversation().user(*[picture] * NUM_PICTURES, "Which of them is a dog?")
    plans = [chain.prompter.training_plan(talk.assistant("None of them."))] * NUM_SAMPLES
    [features] = chain.encode([picture])
    batch = collate(plans, lambda _, media: features.repeat(len(media), 1, 1))
    embeds, _ = chain.assemble(batch)
    return lambda: chain.assemble(batch), lambda: chain.read(embeds, batch.attention_mask)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="of each side")
    options = parser.parse_args()
    torch.manual_seed(0)
    bare, fused = language_model(), language_model()
    fused.load_state_dict(bare.state_dict())
    fusion = GatedCrossAttention(HIDDEN, NUM_LAYERS, MEDIA)
    fusion.install(fused)
    table = Table("what", "ours", "bare", "ratio", "wanted")

    def add(name: str, sides: tuple[Side, Side], runs: int, wanted: str = "") -> None:
        ours, theirs = medians(*sides, runs)
        table.add_row(name, f"{ours:.4f}", f"{theirs:.4f}", f"{ours / theirs:.3f}", wanted)

    for length in (1, 128):
        input_ids = torch.arange(length)[None]
        seen = MediaContext(torch.randn(1, 1, NUM_LATENTS, MEDIA), torch.ones(1, length).long())

        def ours(context: MediaContext | None, ids: torch.Tensor = input_ids) -> object:
            fusion.context = context
            return fused(ids)

        bare_pass = partial(bare, input_ids)
        name = f"gated cross-attention, {length} tokens"
        add(f"{name}, that rests", (partial(ours, None), bare_pass), options.runs, "1.05")
        add(f"{name}, to a picture", (partial(ours, seen), bare_pass), options.runs)
    name = f"{NUM_SAMPLES} x {NUM_PICTURES} pictures into sequences; reading them"
    add(name, assembling(), 3, "0.03")
    Console().print(table)


if __name__ == "__main__":
    main()
