"""What a measurement leaves behind: a table, its numbers as JSON and a sheet of pictures."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from nextgpt.evaluation.metrics import Row

PACKAGES = ("nextgpt", "torch", "transformers", "diffusers", "peft")
PICTURE_PX = 96
CAPTION_PX = 40
COLUMNS = 10
RIGHT, WRONG = "#2e7d32", "#c62828"


@dataclass(frozen=True)
class Sample:
    """A generated picture and what the judge saw in it."""

    picture: Image.Image
    asked: str
    seen: str
    reply: str

    @property
    def is_right(self) -> bool:
        """Whether the judge saw the concept that was asked for."""
        return self.asked.split(",")[0] == self.seen


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
    rows: Sequence[Row], samples: Sequence[Sample], facts: dict[str, Any], out: Path
) -> None:
    """Print the table and write ``results.json``, ``results.md`` and ``pictures.png``.

    Args:
        rows: The table.
        samples: Generated pictures.
        facts: Further entries of ``results.json``: seed, hashes.
        out: Folder; files of an earlier report are replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    versions = {name: metadata.version(name) for name in PACKAGES}
    lines = [{**asdict(row), "interval": row.interval, "passed": row.passed} for row in rows]
    record = {**facts, "versions": versions, "rows": lines}
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "results.md").write_text(markdown(rows), encoding="utf-8")
    if samples:
        contact_sheet(samples).save(out / "pictures.png")
    table = Table("what", "measured", "wanted")
    for row in rows:
        colour = "green" if row.passed else "red"
        table.add_row(row.metric, f"[{colour}]{value_of(row)}", target_of(row))
    console = Console()
    console.print(table)
    console.print(f"numbers, pictures and replies are in {out}", soft_wrap=True, highlight=False)


def contact_sheet(samples: Sequence[Sample]) -> Image.Image:
    """Lay pictures out in rows, each over what was asked for and what the judge saw."""
    height = PICTURE_PX + CAPTION_PX
    num_rows = math.ceil(len(samples) / COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (PICTURE_PX + 4), num_rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, sample in enumerate(samples):
        row, column = divmod(index, COLUMNS)
        corner = (column * (PICTURE_PX + 4), row * height)
        sheet.paste(sample.picture.resize((PICTURE_PX, PICTURE_PX)), corner)
        seen = "" if sample.is_right else f"\nnot {sample.seen}"
        text = "\n".join(textwrap.wrap(sample.asked, 17)[:2]) + seen
        place = (corner[0], corner[1] + PICTURE_PX)
        draw.text(place, text, fill=RIGHT if sample.is_right else WRONG, spacing=0, font_size=10)
    return sheet
