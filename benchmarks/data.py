"""Rows a second and memory of manifests of ten thousand to a million rows.

Tasks: ``check`` looks through all rows, media aside; ``index`` makes a manifest ready for
training; ``read`` then reads conversations of it in training's random order. ``optimize`` packs
it and its media into chunks; ``index chunks`` and ``read chunks`` are as above, with the bytes of
the media.

    python benchmarks/data.py [--rows 10000 100000 1000000]

Every measurement is a process of its own, whose peak of resident memory the kernel tells. Rates are
given by the clock and by the processor's time, which other processes do not change.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from nextgpt.data.check import Check
from nextgpt.data.chunked_conversations import ChunkedConversations
from nextgpt.data.chunks import optimize
from nextgpt.data.manifest_conversations import ManifestConversations

NUM_READ = 20_000
"""Conversations of one ``read``, of manifests of any size."""

NUM_MEDIA, MEDIUM_BYTES = 100, 1000
"""Files that rows name in turn. They are packed and read, not decoded."""

WORDS = "a the dog cat red blue plays barks runs under near bridge river tree music old".split()


def write_manifest(path: Path, num_rows: int) -> None:
    """Write conversations like those of CC3M and LLaVA, about 400 bytes each, and the media."""
    rng = random.Random(0)
    media = path.parent / "images" / "00000"
    media.mkdir(parents=True, exist_ok=True)
    for number in range(NUM_MEDIA):
        (media / f"{number:09d}.jpg").write_bytes(rng.randbytes(MEDIUM_BYTES))
    with path.open("w") as file:
        for number in range(num_rows):
            caption = " ".join(rng.choices(WORDS, k=10))
            name = f"images/00000/{number % NUM_MEDIA:09d}.jpg"
            content = [
                {"type": "image", "path": name, "caption": caption},
                {"type": "text", "text": "\nWhat is in this picture?"},
            ]
            answer = f"{caption}, number {number}"
            row = {
                "id": f"{number:09d}",
                "messages": [
                    {"role": "user", "content": content},
                    {"role": "assistant", "content": answer},
                ],
                "source": "cc3m",
                "split": "train",
                "extra": {"width": 256, "height": 256, "status": "success"},
            }
            file.write(json.dumps(row) + "\n")


def check(path: Path) -> int:
    """Look through a manifest without a look at the media."""
    look = Check(path, media=False)
    assert not list(look.faults())
    return look.counts["rows"]


def index(path: Path) -> int:
    """Build the index of a manifest's rows."""
    return len(ManifestConversations(path).rows)


def read(path: Path) -> int:
    """Read conversations in random order, with the index that ``index`` has built."""
    source = ManifestConversations(path)
    for number in range(NUM_READ):
        source.conversation(number)
    return NUM_READ


def pack(path: Path) -> int:
    """Pack a manifest and its media."""
    return optimize(path, path.with_suffix(".chunks"))


def index_chunks(path: Path) -> int:
    """Choose the rows of the chunks that ``pack`` has made."""
    return len(ChunkedConversations(path.with_suffix(".chunks")).rows)


def read_chunks(path: Path) -> int:
    """Read conversations of chunks in random order, with their media."""
    source = ChunkedConversations(path.with_suffix(".chunks"))
    for number in range(NUM_READ):
        (medium,) = source.conversation(number).messages[0].media
        assert medium.path is None
    return NUM_READ


TASKS: dict[str, Callable[[Path], int]] = {
    "check": check,
    "index": index,
    "read": read,
    "optimize": pack,
    "index chunks": index_chunks,
    "read chunks": read_chunks,
}


def measured(task: str, path: Path) -> dict[str, float]:
    """Run a task in a process of its own."""
    command = [sys.executable, __file__, "--task", task, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def run(task: str, path: Path) -> None:
    """Run a task and print what it took."""
    started, started_cpu = time.perf_counter(), time.process_time()
    num_rows = TASKS[task](path)
    facts = {
        "rows": num_rows,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - started_cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(facts))


def main() -> None:
    """Measure every task at every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("path", nargs="?", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run(options.task, options.path)
        return
    columns = ("task", "rows", "rows a second", "by processor time", "peak memory MB")
    table = Table(*columns)
    with TemporaryDirectory() as folder:
        os.environ["NEXTGPT_CACHE"] = folder  # of the measured processes
        for num_rows in options.rows:
            path = Path(folder) / f"{num_rows}.jsonl"
            write_manifest(path, num_rows)
            for task in TASKS:
                facts = measured(task, path)
                table.add_row(
                    task,
                    f"{num_rows:,}",
                    f"{facts['rows'] / facts['seconds']:,.0f}",
                    f"{facts['rows'] / facts['cpu_seconds']:,.0f}",
                    f"{facts['peak_mb']:,.0f}",
                )
            path.unlink()
            shutil.rmtree(path.with_suffix(".chunks"))
    Console().print(table)


if __name__ == "__main__":
    main()
