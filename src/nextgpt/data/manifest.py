"""Manifests: one JSON line a medium, saying what it is and where it comes from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """One captioned medium."""

    id: str
    modality: str
    """"image", "audio" or "video"."""
    path: str
    """Path of the file, relative to the manifest's folder."""
    caption: str
    concept: str
    attributes: dict[str, Any]
    """What else is known: background, size, drawing and so on."""
    source: str
    """Package and version the medium was made from."""
    licence: str
    split: str


_FIELDS = {field.name: field for field in dataclasses.fields(Item)}


def read_manifest(path: str | Path) -> list[Item]:
    """Read a manifest.

    Raises:
        ValueError: there is no such file, or a line is not a whole item; the message names both.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no manifest at {path}; `nextgpt world build` writes one")
    items = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                items.append(_parse(line, f"{path}, line {number}"))
    return items


def _parse(line: bytes, where: str) -> Item:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(record).__name__}")
    missing, unknown = _FIELDS.keys() - record.keys(), record.keys() - _FIELDS.keys()
    if missing or unknown:
        raise ValueError(f"{where}: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}")
    for name, value in record.items():
        wanted = dict if name == "attributes" else str
        if not isinstance(value, wanted):
            raise ValueError(f"{where}: {name} should be {wanted.__name__}, found {value!r}")
    return Item(**record)


def write_manifest(path: str | Path, items: Iterable[Item]) -> None:
    """Write items as JSON lines; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as lines:
        for item in items:
            lines.write(json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n")
    temporary.replace(path)
