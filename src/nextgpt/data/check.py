"""A look at every row of a manifest, and at every medium, before anything is trained on them."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nextgpt.data.json_lines import numbered_lines, parsed
from nextgpt.data.rows import Part, Row
from nextgpt.media import MEDIUM_TYPES, MediaError, load_medium
from nextgpt.messages import path_inside
from nextgpt.modality import MODALITIES, Modality

SUFFIXES: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"),
    Modality.AUDIO: (".wav", ".mp3", ".flac", ".m4a", ".aac", ".opus"),
    Modality.VIDEO: (".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg"),
}
"""Suffixes that one modality alone has; an mp4, gif, ogg or webm may hold several."""

MODALITY_OF_SUFFIX = {suffix: modality for modality, all_ in SUFFIXES.items() for suffix in all_}

CONDITIONING_SHAPES: dict[Modality, tuple[tuple[int, ...], ...]] = {
    Modality.IMAGE: ((77, 768), (77, 1024)),
    Modality.AUDIO: ((512,), (1, 512)),
    Modality.VIDEO: ((77, 1024),),
}
"""What the decoders of both generations of the original are conditioned on."""

_PLACEHOLDER = re.compile("<(?:{})>".format("|".join(MODALITIES)), re.IGNORECASE)


class Check:
    """One look through a manifest; ``faults`` goes through it, ``counts`` tells what there was.

    Without a look at the media, 16 bytes a row are kept in memory, and 9 more at the end.
    """

    def __init__(self, manifest: Path, media: bool = True) -> None:
        """Choose a manifest.

        Args:
            manifest: JSON lines, see ``nextgpt.data.rows``.
            media: Whether to open the media as well.
        """
        self.manifest, self.media = manifest, media
        self.folder = manifest.parent
        self.counts: Counter[str] = Counter()
        """Rows, messages, media by modality, rows by source and by split, faults."""
        self._seen: set[int] = set()
        self._contents: dict[bytes, tuple[int, str]] = {}

    def faults(self) -> Iterator[str]:
        """Find what is wrong; one line names file, line and trouble.

        Raises:
            ValueError: there is no such file.
        """
        fingerprints, lines = array("q"), array("q")
        for number, row in self._rows():
            where = f"{self.manifest}, line {number}"
            if isinstance(row, ValueError):
                yield self._fault(f"{where}: {row}")
                continue
            fingerprints.append(hash(_told(row)))
            lines.append(number)
            for fault in self._row_faults(row, number):
                yield self._fault(f"{where}: {fault}")
        for number, first in self._repeated(fingerprints, lines):
            yield self._fault(
                f"{self.manifest}, line {number}: the same conversation as in line {first}"
            )

    def _fault(self, line: str) -> str:
        self.counts["faults"] += 1
        return line

    def _rows(self) -> Iterator[tuple[int, Row | ValueError]]:
        for number, _, line in numbered_lines(self.manifest, bar=True):
            try:
                yield number, Row.from_json(parsed(line))
            except ValueError as error:
                yield number, error

    def _row_faults(self, row: Row, number: int) -> Iterator[str]:
        counts = self.counts
        counts["rows"] += 1
        counts["messages"] += len(row.messages)
        counts[f"source {row.source or 'not told'}"] += 1
        counts[f"split {row.split}"] += 1
        if all(message["role"] != "assistant" for message in row.messages):
            yield "the assistant says nothing, there is nothing to learn"
        for role, part in row.parts():
            if part["type"] == Modality.TEXT:
                text = part["text"]
                if "<" in text and (found := _PLACEHOLDER.search(text)):
                    yield (
                        f"{found[0]} in the text of the {role}; a medium is a part of its own, "
                        "there is none for this one"
                    )
                continue
            counts[part["type"]] += 1
            yield from self._medium_faults(role, part, number)

    def _medium_faults(self, role: str, part: Part, number: int) -> Iterator[str]:
        path = part["path"]
        if role == "assistant" and not part.get("caption"):
            yield f"{path}: the assistant's {part['type']} has no caption to learn from"
        suffix = path[path.rfind(".") :].lower()
        if MODALITY_OF_SUFFIX.get(suffix, part["type"]) != part["type"]:
            yield f"{path}: is called like {MODALITY_OF_SUFFIX[suffix]}, not {part['type']}"
            return
        if not self.media:
            return
        for key, look in (("path", self._content_fault), ("conditioning", _conditioning_fault)):
            name = part.get(key)
            if name is None or hash(name) in self._seen:
                continue
            self._seen.add(hash(name))
            try:
                file = path_inside(self.folder, name, key)
                fault = look(file, Modality(part["type"])) if file.is_file() else "no such file"
                fault = fault and f"{name}: {fault}"
                if key == "path" and fault is None:
                    fault = self._repeated_content(file, name, number)
            except ValueError as error:
                fault = str(error)
            if fault:
                yield fault

    def _content_fault(self, file: Path, modality: Modality) -> str | None:
        self.counts["media opened"] += 1
        try:
            MEDIUM_TYPES[modality](file).check()
        except MediaError as error:
            try:
                return f"holds {load_medium(file).modality}, not {modality}"
            except MediaError:
                return str(error).removeprefix(f"{file}: ").removeprefix(f"{file.name}: ")
        return None

    def _repeated_content(self, file: Path, name: str, number: int) -> str | None:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()[:16]
        line, first = self._contents.setdefault(digest, (number, name))
        return None if first == name else f"{name}: the same content as {first} in line {line}"

    def _repeated(self, fingerprints: array, lines: array) -> Iterator[tuple[int, int]]:
        """The lines that say the same as an earlier one, each with that."""
        # NOTE: np.unique with counts would take three times the memory.
        ordered = np.sort(np.frombuffer(fingerprints, np.int64))
        suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        if not suspects:
            return
        wanted = {
            line for line, value in zip(lines, fingerprints, strict=True) if value in suspects
        }
        first: dict[tuple, int] = {}
        for number, _, line in numbered_lines(self.manifest):
            if number in wanted:
                earlier = first.setdefault(_told(Row.from_json(parsed(line))), number)
                if earlier != number:
                    yield number, earlier


def _told(row: Row) -> tuple:
    """What a conversation says and shows, whatever it is called."""
    return tuple(
        (role, part["type"], part.get("text"), part.get("path"), part.get("caption"))
        for role, part in row.parts()
    )


def _conditioning_fault(file: Path, modality: Modality) -> str | None:
    """Look at the header of an ``.npy`` file; nothing of it is unpickled."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        return f"is no whole .npy file of numbers ({error})"
    shapes = CONDITIONING_SHAPES[modality]
    if array.shape not in shapes or array.dtype.kind != "f":
        wanted = " or ".join(map(str, shapes))
        return (
            f"holds {array.shape} {array.dtype}; the conditioning of {modality} is float {wanted}"
        )
    return None
