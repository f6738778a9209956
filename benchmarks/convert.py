"""Seconds and memory of converting a file with the names and shapes of the released weights.

The file is made here, of noise: 792 MB, and beside it a base model's tables, 524 MB.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

WIDTH, LAYERS, RANK, VOCABULARY_SIZE, NUM_ADDED = 4096, 32, 32, 32_000, 38
CONDITIONING = {"": (77, 768), "_video": (77, 1024), "_audio": (1, 512)}


def noise(*shape: int) -> Tensor:
    """Small numbers in float16."""
    return (0.02 * torch.randn(*shape)).half()


def released_weights() -> OrderedDict[str, Tensor]:
    """Everything that the released file holds."""
    weights = OrderedDict()
    stem = "llama_model.base_model.model."
    for name in ("model.embed_tokens", "lm_head"):
        weights[f"{stem}{name}.weight"] = noise(VOCABULARY_SIZE + NUM_ADDED, WIDTH)
    for layer in range(LAYERS):
        for module in "qkvo":
            name = f"{stem}model.layers.{layer}.self_attn.{module}_proj.lora"
            weights[f"{name}_A.default.weight"] = noise(RANK, WIDTH)
            weights[f"{name}_B.default.weight"] = noise(WIDTH, RANK)
    weights["llama_proj.weight"], weights["llama_proj.bias"] = noise(WIDTH, 1024), noise(WIDTH)
    for kind, (length, width) in CONDITIONING.items():
        prefix = f"gen_text_hidden_fcs{kind}.0."
        parts = {
            "fc.": nn.Linear(WIDTH, 512),
            "tfm.": nn.Transformer(512, 4, 4, 4, 2048, norm_first=True, batch_first=True),
            "model.": nn.Linear(512, width),
        }
        for part, module in parts.items():
            for name, value in module.state_dict().items():
                weights[f"{prefix}{part}{name}"] = value.half()
        weights[f"{prefix}query_embs"] = noise(1, length, 512)
    return weights


def measured(arguments: list[str]) -> tuple[float, float, float]:
    """Run ``nextgpt`` alone; return seconds, processor seconds and peak resident memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "nextgpt.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    seconds = time.perf_counter() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Make the files, convert them, print the table."""
    table = Table("run", "seconds", "processor seconds", "peak memory, MB")
    with tempfile.TemporaryDirectory(prefix="nextgpt-") as name:
        folder = Path(name)
        weights = released_weights()
        count = sum(value.numel() for value in weights.values())
        file = folder / "pytorch_model.pt"
        torch.save(weights, file)
        base = folder / "base"
        base.mkdir()
        tables = [key for key in weights if "embed_tokens" in key or "lm_head" in key]
        names = {key: key.removeprefix("llama_model.base_model.model.") for key in tables}
        save_file(
            {names[key]: weights[key][:VOCABULARY_SIZE].clone() for key in tables},
            base / "model.safetensors",
        )
        config = {"vocab_size": VOCABULARY_SIZE, "hidden_size": WIDTH}
        (base / "config.json").write_text(json.dumps(config))
        decoders: dict[str, dict[str, str]] = {"image": {}, "audio": {}, "video": {}}
        chain = {"chain": {"language_model": {}, "decoders": decoders}}
        (folder / "chain.yaml").write_text(yaml.safe_dump(chain))
        del weights
        convert = ["convert", "checkpoint", str(file), "--config", str(folder / "chain.yaml")]
        for run, options in (("without base", []), ("with base", ["--base", str(base)])):
            out = folder / run.replace(" ", "_")
            results = measured([*convert, "--out", str(out), *options])
            table.add_row(run, *(f"{result:.1f}" for result in results))
        size = file.stat().st_size / 1e6
        Console().print(f"{count:,} parameters, {size:.0f} MB; mapped pages of the file count too")
    Console().print(table)


if __name__ == "__main__":
    main()
