"""One's own pictures, sounds and clips beside the micro world's, to teach the micro model."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nextgpt.data.manifest import Item, read_manifest, write_manifest
from nextgpt.media import load_medium
from nextgpt.modality import MODALITIES
from nextgpt.sources import cache_dir

CAPTION_FILES = ("metadata.jsonl", "metadata.csv")
OWN_MANIFEST = "own.jsonl"
"""The added media alone; ``manifest.jsonl`` has them behind the world's."""
OWN = "own"
"""Value of the attribute ``origin`` of added media, for the ``weights`` of the recipes."""


def add_media(folder: Path, out: Path, world: Path | None = None) -> list[Item]:
    """Make a world folder of an existing one and of a folder of captioned media.

    Captions stand in ``metadata.jsonl`` or ``metadata.csv`` (``file_name`` and ``text``), else in a
    text file of the medium's name, else the name itself is the caption: ``a platypus.png``.

    Args:
        folder: The media.
        out: Receives the media, as png, wav and mp4, and two manifests, when all can be read.
        world: An existing world folder, which ``out`` links to; the user's cache by default.

    Returns:
        What was added.

    Raises:
        ValueError: a file cannot be read or has no caption, a caption has no file, or there are no
            media; one line names it.
    """
    base = (world or cache_dir() / "world").resolve()
    known = read_manifest(base / "manifest.jsonl")
    captions = dict(_captions(folder))
    if not captions:
        raise ValueError(f"{folder}: no media here; put pictures, sounds or videos into it")
    # All are read before anything is written.
    media = [(path, load_medium(path, caption)) for path, caption in sorted(captions.items())]
    added = []
    for number, (path, medium) in enumerate(media):
        name = f"media/own-{number:05d}{MODALITIES[medium.modality].file_suffix}"
        medium.save(out / name)
        item = Item(
            id=f"own-{number:05d}",
            modality=medium.modality,
            path=name,
            caption=captions[path],
            concept=captions[path],
            attributes={"origin": OWN},
            source=path.name,
            licence="its owner's",
            split="train",
        )
        added.append(item)
    link = out / "world"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(base, target_is_directory=True)
    linked = [replace(item, path=f"world/{item.path}") for item in known]
    write_manifest(out / OWN_MANIFEST, added)
    write_manifest(out / "manifest.jsonl", [*linked, *added])
    return added


def _captions(folder: Path) -> Iterator[tuple[Path, str]]:
    """Find the media of a folder, each with its caption."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name one with captioned media")
    listed = [folder / name for name in CAPTION_FILES if (folder / name).is_file()]
    if listed:
        for file_name, text in _listed(listed[0]):
            path = (folder / file_name).resolve()
            if not path.is_relative_to(folder.resolve()) or not path.is_file():
                raise ValueError(f"{listed[0]}: there is no file {file_name!r} in {folder}")
            yield path, _tidy(text, str(path))
        return
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix == ".txt" or not path.is_file():
            continue
        beside = path.with_suffix(".txt")
        text = beside.read_text(encoding="utf-8") if beside.is_file() else _in_words(path.stem)
        yield path, _tidy(text, str(path))


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """Read ``file_name`` and ``text`` of every line of a list of captions."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = map(json.loads, file) if path.suffix == ".jsonl" else csv.DictReader(file)
        try:
            for number, line in enumerate(lines, start=1):
                if not isinstance(line, dict) or not all(
                    line.get(k) for k in ("file_name", "text")
                ):
                    raise ValueError(f"entry {number} needs a file_name and a text")
                yield str(line["file_name"]), str(line["text"])
        except ValueError as error:
            raise ValueError(f"{path}: cannot be read as a list of captions ({error})") from error


def _in_words(stem: str) -> str:
    """Take a file's name for a caption; a number at its end tells files apart."""
    return re.sub(r"[\s_-]*\d*$", "", stem.replace("_", " ").replace("-", " "))


def _tidy(text: str, name: str) -> str:
    """Write a caption as the world's are: one line, lower case at its start, no full stop."""
    words = " ".join(text.split()).rstrip(".")
    if not words:
        raise ValueError(f"{name}: its caption is empty; say what it shows")
    return words[0].lower() + words[1:]
