"""The commands ``nextgpt world build`` and ``nextgpt world stats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.sources import cache_dir
from nextgpt.world.build import build_world


def build(
    out: Path | None = None,
    archives: Path | None = None,
    num_train: int = 16000,
    seed: int = 0,
) -> None:
    """Build the micro world's pictures; run again after an interruption, it goes on where it was.

    Args:
        out: folder to build in; ``world`` in the user's cache when not given.
        archives: folder of packages fetched by hand, looked at before the registries.
        num_train: whole-drawing training pictures; faces and variants come on top.
        seed: another seed gives other compositions of the same drawings.
    """
    manifest = build_world(out, num_train=num_train, archives=archives, seed=seed)
    counts = Counter(item.split for item in read_manifest(manifest))
    words = ", ".join(f"{count} {split}" for split, count in counts.items())
    Console().print(f"{manifest}: {words}", soft_wrap=True, highlight=False)


def stats(world: Path | None = None) -> None:
    """Print how many pictures the world holds by split, concept, background and licence.

    Args:
        world: the world's folder; the one in the user's cache when not given.
    """
    items = read_manifest((world or cache_dir() / "world") / "manifest.jsonl")
    console = Console()
    groupings: dict[str, Callable[[Item], str]] = {
        "concept": lambda item: item.concept,
        "background": lambda item: str(item.attributes["background"]),
        "size": lambda item: str(item.attributes["size"]),
        "count": lambda item: str(item.attributes["count"]),
        "licence": lambda item: item.licence,
    }
    for name, group in groupings.items():
        console.print(_table(name, group, items))


def _table(name: str, group: Callable[[Item], str], items: list[Item]) -> Table:
    """Count items by a group (rows) and by split (columns)."""
    splits = list(dict.fromkeys(item.split for item in items))
    counts = Counter((group(item), item.split) for item in items)
    totals = Counter(item.split for item in items)
    table = Table(name, show_footer=True)
    table.columns[0].footer = "all"
    for split in splits:
        table.add_column(split, justify="right", footer=str(totals[split]))
    for row in dict.fromkeys(group(item) for item in items):
        table.add_row(row, *(str(counts[row, split]) for split in splits))
    return table
