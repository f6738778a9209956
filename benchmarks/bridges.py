"""Time bridges beside the bare language model that they are made for.

Every row is the median of some runs of both sides, taken in turn; nothing else should run.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from nextgpt.bridges.fusion import MediaContext
from nextgpt.bridges.gated import GatedCrossAttention

HIDDEN, NUM_LAYERS, MEDIA, NUM_LATENTS = 576, 30, 1024, 64


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
    for length in (1, 128):
        input_ids = torch.arange(length)[None]
        context = MediaContext(torch.randn(1, 1, NUM_LATENTS, MEDIA), torch.ones(1, length).long())
        rows = (
            ("gated cross-attention that rests", None, "at most 1.02"),
            ("gated cross-attention to a picture", context, ""),
        )
        for name, seen, wanted in rows:
            fusion.context = seen
            with torch.inference_mode():
                fused(input_ids)
                pairs = [
                    (timed(lambda: fused(input_ids)), timed(lambda: bare(input_ids)))  # noqa: B023
                    for _ in range(options.runs)
                ]
            ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = f"{ours / theirs:.3f}"
            table.add_row(f"{name}, {length} tokens", f"{ours:.4f}", f"{theirs:.4f}", ratio, wanted)
    Console().print(table)


if __name__ == "__main__":
    main()
