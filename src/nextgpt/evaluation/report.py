"""What a measurement leaves behind: a table, its numbers as JSON and a page to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nextgpt.evaluation.page import page
from nextgpt.evaluation.results import Row

PACKAGES = ("nextgpt", "torch", "transformers", "diffusers", "peft")


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as it stands in the README."""
    lines = ["| what | measured | wanted | verdict |", "|---|---|---|---|"]
    for row in rows:
        name = f"{row.metric} ({row.note})" if row.note else row.metric
        mark = "reached" if row.passed else "**missed**"
        lines.append(f"| {name} | {row.value_in_words} | {row.target_in_words} | {mark} |")
    return "\n".join(lines) + "\n"


def write_report(rows: Sequence[Row], facts: dict[str, Any], out: Path) -> None:
    """Print the table and write ``results.json``, ``results.md`` and ``index.html``.

    Args:
        rows: The table.
        facts: Further entries of ``results.json``: seed, hashes.
        out: Folder; files of an earlier report are replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    facts = facts | {"versions": {name: metadata.version(name) for name in PACKAGES}}
    record = facts | {"rows": [row.to_json() for row in rows]}
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "results.md").write_text(markdown(rows), encoding="utf-8")
    (out / "index.html").write_text(page(rows, facts), encoding="utf-8")
    table = Table("what", "measured", "wanted")
    for row in rows:
        colour = "green" if row.passed else "red"
        table.add_row(row.metric, f"[{colour}]{row.value_in_words}", row.target_in_words)
    console = Console()
    console.print(table)
    console.print(
        f"every case with its media: {out / 'index.html'}; numbers: {out / 'results.json'}",
        soft_wrap=True,
        highlight=False,
    )
