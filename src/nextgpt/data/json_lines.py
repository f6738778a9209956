"""JSON lines: read one at a time however long the file is, written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from nextgpt.media.base import atomic_path

BUFFER_BYTES = 1024**2
MAX_LINE_BYTES = 64 * 1024**2
"""A longer line is no row: a whole JSON list without line breaks, most likely."""


class _Counted(io.FileIO):
    """A file that tells a progress bar how much of it is read."""

    bar: tqdm

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self.bar.update(count or 0)
        return count


@contextmanager
def opened(path: Path, bar: bool = True) -> Iterator[io.BufferedReader]:
    """Open a file to read, with a progress bar on request.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check its name")
    size = path.stat().st_size
    with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=not bar) as shown:
        counted = _Counted(path)
        counted.bar = shown
        with io.BufferedReader(counted, BUFFER_BYTES) as file:
            yield cast(io.BufferedReader, file)


def numbered_lines(path: Path, bar: bool = False) -> Iterator[tuple[int, int, bytes]]:
    """Read the lines that are not blank, with a bar on request.

    Yields:
        The line's number, from 1, where it starts, in bytes, and the line.

    Raises:
        ValueError: there is no such file, or a line is longer than ``MAX_LINE_BYTES``.
    """
    with opened(path, bar) as file:
        start = 0
        lines = iter(partial(file.readline, MAX_LINE_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) == MAX_LINE_BYTES:
                raise ValueError(
                    f"{path}, line {number}: longer than {MAX_LINE_BYTES:,} bytes; name a file of "
                    "JSON lines, not one of a JSON list"
                )
            if not line.isspace():
                yield number, start, line
            start += len(line)


def parsed(line: bytes) -> Any:
    """What a line holds.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error


def read_json_lines(path: Path, bar: bool = False) -> Iterator[tuple[int, Any]]:
    """Read what the lines hold, with their numbers from 1.

    Raises:
        ValueError: see ``numbered_lines``; or a line is not JSON. Names file and line.
    """
    for number, _, line in numbered_lines(path, bar):
        try:
            yield number, parsed(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one row a line; the file appears whole or not at all."""
    with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
