"""What a measurement leaves behind: a table, its numbers as JSON and sheets of what was made."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from nextgpt.evaluation.metrics import Row
from nextgpt.media.log_mel import log_mel

PACKAGES = ("nextgpt", "torch", "transformers", "diffusers", "peft")
FRAME_PX = 48
CAPTION_PX = 40
LETTER_PX = 5.6
RIGHT, WRONG = "#2e7d32", "#c62828"


@dataclass(frozen=True)
class Layout:
    """How a sheet is laid out."""

    columns: int
    width: int
    """Of one picture, in pixels."""
    height: int


SHEETS = {
    "pictures": Layout(10, 96, 96),
    "clips": Layout(3, 8 * FRAME_PX, FRAME_PX),
    "sounds": Layout(8, 128, 64),
}
"""Name of a sheet's file -> its layout."""


@dataclass(frozen=True)
class Sample:
    """A generated medium as a picture, and what was seen or heard in it."""

    picture: Image.Image
    asked: str
    seen: str
    reply: str
    is_right: bool


def value_of(row: Row) -> str:
    """Word a row's value: a share with its counts, or a number."""
    if row.hits is None:
        return f"{row.value:.2f}"
    low, high = row.interval or (0.0, 1.0)
    return f"{row.value:.1%} ({row.hits} of {row.count}; {low:.0%} to {high:.0%})"


def target_of(row: Row) -> str:
    """Word a row's target."""
    target = f"{row.target:g}" if row.hits is None else f"{row.target:.0%}"
    words = {">=": "at least", ">": "more than", "<": "less than"}
    return f"{words[row.relation]} {target}"


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as it stands in the README."""
    lines = ["| what | measured | wanted | |", "|---|---|---|---|"]
    for row in rows:
        name = f"{row.metric} ({row.note})" if row.note else row.metric
        mark = "reached" if row.passed else "**missed**"
        lines.append(f"| {name} | {value_of(row)} | {target_of(row)} | {mark} |")
    return "\n".join(lines) + "\n"


def write_report(
    rows: Sequence[Row], samples: Mapping[str, Sequence[Sample]], facts: dict[str, Any], out: Path
) -> None:
    """Print the table and write ``results.json``, ``results.md`` and the sheets.

    Args:
        rows: The table.
        samples: Generated media by the name of their sheet, see ``SHEETS``.
        facts: Further entries of ``results.json``: seed, hashes.
        out: Folder; files of an earlier report are replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    versions = {name: metadata.version(name) for name in PACKAGES}
    lines = [{**asdict(row), "interval": row.interval, "passed": row.passed} for row in rows]
    record = {**facts, "versions": versions, "rows": lines}
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "results.md").write_text(markdown(rows), encoding="utf-8")
    for name, shown in samples.items():
        contact_sheet(shown, SHEETS[name]).save(out / f"{name}.png")
    table = Table("what", "measured", "wanted")
    for row in rows:
        colour = "green" if row.passed else "red"
        table.add_row(row.metric, f"[{colour}]{value_of(row)}", target_of(row))
    console = Console()
    console.print(table)
    console.print(f"numbers, media and replies are in {out}", soft_wrap=True, highlight=False)


def contact_sheet(samples: Sequence[Sample], layout: Layout) -> Image.Image:
    """Lay pictures out in rows, each over what was asked for and what was seen."""
    width, height = layout.width + 4, layout.height + CAPTION_PX
    num_rows = math.ceil(len(samples) / layout.columns)
    sheet = Image.new("RGB", (layout.columns * width, num_rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, sample in enumerate(samples):
        row, column = divmod(index, layout.columns)
        corner = (column * width, row * height)
        sheet.paste(sample.picture.resize((layout.width, layout.height)), corner)
        seen = "" if sample.is_right else f"\nnot {sample.seen}"
        text = "\n".join(textwrap.wrap(sample.asked, int(layout.width / LETTER_PX))[:2]) + seen
        place = (corner[0], corner[1] + layout.height)
        draw.text(place, text, fill=RIGHT if sample.is_right else WRONG, spacing=0, font_size=10)
    return sheet


def film_strip(frames: np.ndarray) -> Image.Image:
    """Set the (T, H, W, 3) uint8 frames of a clip side by side."""
    strip = Image.new("RGB", (len(frames) * FRAME_PX, FRAME_PX))
    for index, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize((FRAME_PX, FRAME_PX)), (index * FRAME_PX, 0))
    return strip


def spectrogram(waveform: np.ndarray) -> Image.Image:
    """Draw the log-mel spectrogram of a (T,) sound, low tones at the bottom."""
    levels = log_mel(torch.from_numpy(waveform)[None])[0].flip(0).numpy()
    return Image.fromarray(((levels + 1) * 127.5).clip(0, 255).astype(np.uint8)).convert("RGB")
