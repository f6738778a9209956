"""Time training steps on the micro world's dialogues, batched in three ways.

Padded: batches of shuffled dialogues, each padded to its longest. Similar lengths: batches of
dialogues that are about as long as each other. Packed: batches of shuffled dialogues that share
rows. A step is forward, backward and optimizer of the instruct stage, with features in the cache.
The ways take turns on the same dialogues; nothing else should run.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from nextgpt.batch import ChainBatch
from nextgpt.data.batches import SimilarLengths
from nextgpt.training.cli import configured
from nextgpt.training.stage import Stage

CONFIG = Path(__file__).parents[1] / "configs" / "micro.yaml"
WAYS = {
    "padded": (1, False),
    "similar lengths": (SimilarLengths.WINDOW, False),
    "packed": (1, True),
}
"""Batches that are sorted together, and whether conversations share rows."""


def dialogues(folder: str, batch_size: int) -> tuple[Stage, object]:
    """Stage and data of the micro model's instruct stage, ready to train."""
    arguments = ["-c", str(CONFIG), "--stage", "instruct", "--model.init_args.start_from", "null"]
    arguments += ["--data.init_args.batch_size", str(batch_size)]
    arguments += ["--trainer.default_root_dir", folder, "--trainer.callbacks", "null"]
    built = configured(arguments)
    # What a trainer does before the first step.
    built.trainer.strategy.connect(built.model)
    built.model.trainer = built.trainer
    built.datamodule.trainer = built.trainer
    # The dialogues alone: captions of one sentence would make every way look better.
    built.datamodule.train = built.datamodule.train[:1]
    built.datamodule.setup("fit")
    return built.model, built.datamodule


def step_s(stage: Stage, optimizer: torch.optim.Optimizer, batch: ChainBatch) -> float:
    """Seconds of one step."""
    started = time.perf_counter()
    total, _ = stage._total(stage._losses(batch))
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16, metavar="N", help="of each way")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="dialogues a step")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        stage, data = dialogues(folder, options.batch_size)
    source = data.train[0]
    optimizer = torch.optim.AdamW([p for p in stage.parameters() if p.requires_grad], lr=1e-5)

    def batches(window: int, pack: bool) -> Iterator[ChainBatch]:
        def plan(index: int):  # noqa: ANN202
            return data._plan(source.conversation(index))

        for plans in SimilarLengths([plan], options.batch_size, 0, window):
            data.pack = pack
            yield data._collate(plans)

    stage.chain.language_model.check_packing()
    streams = {way: batches(*how) for way, how in WAYS.items()}
    seconds = dict.fromkeys(WAYS, 0.0)
    tokens, places = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0)
    for number in range(options.steps + 1):
        for way, stream in streams.items():
            batch = next(stream)
            elapsed = step_s(stage, optimizer, batch)
            if number:  # the first step of each way warms up
                seconds[way] += elapsed
                tokens[way] += int(batch.attention_mask.sum())
                places[way] += batch.attention_mask.numel()
    samples = options.steps * options.batch_size
    table = Table("batches", "samples/s", "times padded", "places that hold a token")
    for way in WAYS:
        ratio = seconds["padded"] / seconds[way]
        share = tokens[way] / places[way]
        table.add_row(way, f"{samples / seconds[way]:.2f}", f"{ratio:.2f}", f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
