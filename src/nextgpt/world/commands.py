"""The commands ``nextgpt world build``, ``nextgpt world add`` and ``nextgpt world stats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.modality import MODALITIES
from nextgpt.sources import cache_dir
from nextgpt.world.build import build_world
from nextgpt.world.own_media import add_media

GROUPINGS: dict[str, tuple[str, ...]] = {
    "image": ("background", "size", "count"),
    "audio": ("kind", "register", "contour", "count", "speed"),
    "video": ("background", "motion"),
}
"""Modality -> the attributes that its media are counted by, besides concept and licence."""


def build(
    out: Path | None = None,
    archives: Path | None = None,
    num_train: int = 24000,
    num_sounds: int = 9000,
    num_clips: int = 9000,
    seed: int = 0,
) -> None:
    """Build the micro world's media; run again after an interruption, it goes on where it was.

    Args:
        out: folder to build in; ``world`` in the user's cache when not given.
        archives: folder of packages fetched by hand, looked at before the registries.
        num_train: whole-drawing training pictures; faces and variants come on top.
        num_sounds: training sounds; 0 builds none, and fetches no soundfont.
        num_clips: training clips of moving drawings; 0 builds none, and fetches no animations.
        seed: another seed gives other compositions of the same drawings.
    """
    manifest = build_world(
        out,
        num_train=num_train,
        archives=archives,
        seed=seed,
        num_sounds=num_sounds,
        num_clips=num_clips,
    )
    counts = Counter((item.modality, item.split) for item in read_manifest(manifest))
    words = ", ".join(f"{count} {modality} {split}" for (modality, split), count in counts.items())
    Console().print(f"{manifest}: {words}", soft_wrap=True, highlight=False)


def add(folder: Path, out: Path, world: Path | None = None) -> None:
    """Add a folder of captioned pictures, sounds or videos to the world, to train on both.

    Captions stand in metadata.jsonl or metadata.csv (file_name, text), in a text file of the
    medium's name, or are the medium's name itself: "a platypus.png".

    Args:
        folder: the media.
        out: the new world folder; it links to the old one.
        world: the old one; ``world`` in the user's cache when not given.
    """
    added = add_media(folder, out, world)
    counts = Counter(item.modality for item in added)
    words = ", ".join(f"{counts[name]} {name}" for name in MODALITIES if counts[name])
    Console().print(f"{out}: the world and {words} more", soft_wrap=True, highlight=False)


def stats(world: Path | None = None) -> None:
    """Print what the world holds by split, concept, attributes and licence, for each modality.

    Args:
        world: the world's folder; the one in the user's cache when not given.
    """
    items = read_manifest((world or cache_dir() / "world") / "manifest.jsonl")
    console = Console()
    for modality in MODALITIES:
        chosen = [item for item in items if item.modality == modality]
        if not chosen:
            continue
        groupings: dict[str, Callable[[Item], str]] = {
            "concept": lambda item: item.concept,
            **{name: _attribute(name) for name in GROUPINGS[modality]},
            "licence": lambda item: item.licence,
        }
        for name, group in groupings.items():
            console.print(_table(f"{modality}: {name}", group, chosen))


def _attribute(name: str) -> Callable[[Item], str]:
    return lambda item: str(item.attributes.get(name))


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
