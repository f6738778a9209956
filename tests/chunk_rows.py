"""A manifest of rows with media of all kinds: small, but more than one chunk of a megabyte."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tiny_chain import medium

from nextgpt.data.rows import Row, write_rows
from nextgpt.modality import MODALITIES

NUM_ROWS, NUM_TRAIN = 120, 90
KINDS = list(MODALITIES)


def row(number: int) -> Row:
    """One medium, from the second round of kinds on two; every fourth row of another split."""
    names = [KINDS[number % 3], *([KINDS[number // 3 % 3]] if number > 2 else [])]
    parts: list[dict[str, Any]] = [
        {
            "type": str(kind),
            "path": f"media/{kind} {number % 4}{MODALITIES[kind].file_suffix}",
            "caption": f"{kind} {number} 犬",
            "seed": number,
        }
        for kind in names
    ]
    messages = [
        {"role": "user", "content": [*parts[1:], {"type": "text", "text": f"Show me {number}."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Here."}, parts[0]]},
    ]
    split = "validation" if number % 4 == 0 else "train"
    return Row(f"row-{number}", messages, "ab"[number % 2], split=split, extra={"of": number})


def manifest_of_media(folder: Path) -> Path:
    """Write the rows and their media into a folder."""
    for kind, seed in itertools.product(KINDS, range(4)):
        name = f"{kind} {seed}{MODALITIES[kind].file_suffix}"
        medium(kind, seed).save(folder / "media" / name)
    path = folder / "all.jsonl"
    write_rows(path, map(row, range(NUM_ROWS)))
    return path
