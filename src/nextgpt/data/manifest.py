"""Manifests of the micro world: one JSON line a medium, saying what is known of it.

Conversations of any kind have manifests of their own, see ``nextgpt.data.rows``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt.data.json_lines import read_json_lines, write_json_lines


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
    return [_item(record, f"{path}, line {number}") for number, record in read_json_lines(path)]


def _item(record: Any, where: str) -> Item:
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
    write_json_lines(Path(path), map(dataclasses.asdict, items))
