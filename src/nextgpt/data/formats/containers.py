"""Files that hold records: lists in JSON, JSON lines, tables."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import ijson

from nextgpt.data.json_lines import opened
from nextgpt.media.base import atomic_path

Placed = tuple[str, Any]
"""A record and its place for errors: ``FILE, line N``."""


class Container(ABC):
    """A kind of file, or of folder, that records are read from and written to one by one."""

    carries_media = False
    """Whether the media are inside of it, and are taken out and put in with the records."""

    @abstractmethod
    def read(self, path: Path, keys: Sequence[str], media: Path) -> Generator[Placed]:
        """Read the records.

        Args:
            path: The file or folder.
            keys: What a table must have columns of.
            media: Folder for the media of a container that carries them.

        Raises:
            ValueError: it cannot be read; names the file and the place in it.
        """

    @abstractmethod
    def write(self, path: Path, records: Iterable[dict[str, Any]], media: Path) -> None:
        """Write records; the file appears whole or not at all.

        Args:
            path: The file or folder.
            records: Plain data.
            media: Folder that media are taken from by a container that carries them.

        Raises:
            ValueError: the container cannot hold a value.
        """


class JsonList(Container):
    """One list in a JSON file, of which no more than one record is in memory."""

    def read(self, path: Path, keys: Sequence[str], media: Path) -> Generator[Placed]:
        """See ``Container.read``."""
        with opened(path) as file:
            start = file.peek(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            if start != b"[":
                found = {b"{": "one object", b"": "nothing"}.get(start, "something else")
                raise ValueError(f"{path}: holds {found} where a JSON list of records is expected")
            if file.peek(3)[:3] == b"\xef\xbb\xbf":
                file.read(3)
            number = 0
            try:
                for number, record in enumerate(ijson.items(file, "item", use_float=True), 1):
                    yield f"{path}, record {number}", record
            except (ijson.JSONError, UnicodeDecodeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{path}, record {number + 1}: not JSON, or cut short ({reason})"
                ) from error

    def write(self, path: Path, records: Iterable[dict[str, Any]], media: Path) -> None:
        """See ``Container.write``."""
        with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            file.write("[")
            for number, record in enumerate(records):
                file.write(",\n" if number else "\n")
                file.write(json.dumps(record, ensure_ascii=False))
            file.write("\n]\n")


class Table(Container):
    """A CSV file with a header; separated by tabs where it is called ``.tsv``."""

    def read(self, path: Path, keys: Sequence[str], media: Path) -> Generator[Placed]:
        """See ``Container.read``."""
        with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            rows = csv.reader(text, delimiter=_delimiter(path), strict=True)
            try:
                header = next(rows, [])
                missing = [key for key in keys if key not in header]
                if missing:
                    raise ValueError(
                        f"{path}, line 1: the header lacks {', '.join(missing)}; it reads "
                        f"{', '.join(header)[:200]!r}"
                    )
                if len(set(header)) < len(header):
                    raise ValueError(f"{path}, line 1: two columns have one name")
                for cells in rows:
                    where = f"{path}, line {rows.line_num}"
                    if len(cells) != len(header):
                        raise ValueError(
                            f"{where}: {len(cells)} cells for {len(header)} columns; put cells "
                            "with commas or line breaks in double quotes"
                        )
                    yield where, dict(zip(header, cells, strict=True))
            except (csv.Error, UnicodeDecodeError) as error:
                raise ValueError(f"{path}, line {rows.line_num + 1}: {error}") from error

    def write(self, path: Path, records: Iterable[dict[str, Any]], media: Path) -> None:
        """See ``Container.write``; the first record says which columns there are."""
        with atomic_path(path) as unfinished:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, delimiter=_delimiter(path))
                header: list[str] = []
                for number, record in enumerate(records, start=1):
                    if number == 1:
                        header = list(record)
                        table.writerow(header)
                    if other := record.keys() ^ set(header):
                        raise ValueError(
                            f"{path}, row {number}: {sorted(other)[0]!r} is not in every row, and "
                            "a table has the same columns in all; use a format of JSON"
                        )
                    for key, value in record.items():
                        if not isinstance(value, str | int | float):
                            raise ValueError(
                                f"{path}, row {number}: {key!r} is {type(value).__name__}, which "
                                "a table cannot hold; use a format of JSON"
                            )
                    table.writerow([record[key] for key in header])


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","
