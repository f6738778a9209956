"""``nextgpt convert checkpoint``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nextgpt import checkpoint
from nextgpt.conversion.original import convert_checkpoint


def convert(arguments: Sequence[str]) -> int:
    """Convert a checkpoint of the original NExT-GPT and print what went where."""
    parser = argparse.ArgumentParser(
        "nextgpt convert checkpoint",
        description="Turn the released pytorch_model.pt of NExT-GPT, or a file of one of its "
        "stages, into a checkpoint directory.",
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="pytorch_model.pt")
    add("--out", type=Path, metavar="DIR", required=True, help="new checkpoint directory")
    add("--base", metavar="SOURCE", help="the language model, Vicuna-7B v0: a directory or "
        "hf:owner/name@revision; tells how far the tables drifted from it")  # fmt: skip
    add("-c", "--config", type=Path, metavar="FILE", help="YAML with encoder and decoders "
        "(default: configs/nextgpt-7b.yaml)")  # fmt: skip
    options = parser.parse_args(arguments)
    config = options.config or checkpoint.shipped("configs/nextgpt-7b.yaml")
    report = convert_checkpoint(options.file, options.out, config, options.base)
    console = Console()
    console.print(report.table())
    for note in report.notes:
        console.print(f"* {note}", highlight=False)
    console.print(f"written to {options.out}; conversion.md there lists every key", highlight=False)
    return 0
