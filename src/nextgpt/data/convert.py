"""Conversion of other projects' data to a manifest of conversations, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextgpt.data.formats import FORMATS, Folders, Format
from nextgpt.data.formats.pairs import Pairs
from nextgpt.data.rows import Row, read_rows, write_rows
from nextgpt.media.base import staged_folder

logger = logging.getLogger(__name__)

MAX_WARNINGS = 20
"""So many records that are left out are named; the others are counted."""


def format_of(name: str, file_name: str | None = None, caption: str | None = None) -> Format:
    """Look up a format.

    Args:
        name: A key of ``FORMATS``.
        file_name: How media are named, with keys of records in braces, where they are pairs.
        caption: Key of the captions of pairs.

    Raises:
        ValueError: there is no such format, or it has no pairs.
    """
    if name not in FORMATS:
        raise ValueError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    found = FORMATS[name]
    changes: dict[str, Any] = {"file_name": file_name, "caption": caption}
    changes = {key: value for key, value in changes.items() if value is not None}
    if not changes:
        return found
    if not isinstance(found.schema, Pairs):
        raise ValueError(f"{name}: {min(changes)} is for pairs, these are conversations")
    return replace(found, schema=replace(found.schema, **changes))


def to_manifest(
    source: Path,
    target: Path,
    form: Format,
    folders: Folders,
    facts: dict[str, Any],
    skip_faulty: bool = False,
) -> int:
    """Convert to a manifest, which appears whole or not at all.

    Args:
        source: File or folder of records.
        target: The manifest.
        form: Of the source.
        folders: Of the files that records name, from the manifest's folder on; media that the
            source carries are written there.
        facts: ``source``, ``licence`` and ``split`` of the rows.
        skip_faulty: Leave out, with a warning, the records that make no row.

    Returns:
        Number of rows.

    Raises:
        ValueError: a record makes no row, or the source cannot be read; names file and place.
    """
    media = target.parent / folders.media
    with ExitStack() as stack:
        if form.container.carries_media:
            if not folders.media:
                raise ValueError(f"{source}: carries media; name a new folder for them")
            media = stack.enter_context(staged_folder(media))
        keys = form.schema.keys if isinstance(form.schema, Pairs) else []
        # Closed here, so that a bar ends before an error is told.
        records = stack.enter_context(closing(form.container.read(source, keys, media)))

        def row_of(entry: tuple[int, tuple[str, Any]]) -> tuple[str, Callable[[], Row]]:
            number, (where, record) = entry
            return where, lambda: form.schema.row(record, number, facts, folders)

        counted = _Counted(_made(map(row_of, enumerate(records)), skip_faulty))
        write_rows(target, counted)
    return counted.count


def from_manifest(
    source: Path,
    target: Path,
    form: Format,
    folders: Folders,
    skip_faulty: bool = False,
    lossy: bool = False,
) -> int:
    """Convert a manifest; what it is converted to appears whole or not at all.

    Args:
        source: The manifest.
        target: File or folder of records.
        form: Of the target.
        folders: Of the media, from the manifest's folder on.
        skip_faulty: Leave out, with a warning, the rows that the format cannot hold.
        lossy: Leave out what the format cannot hold of rows that it can hold otherwise.

    Returns:
        Number of records.

    Raises:
        ValueError: a row is none, or the format cannot hold it; names file and line.
    """

    def record_of(entry: tuple[str, Row]) -> tuple[str, Callable[[], dict[str, Any]]]:
        where, row = entry
        return where, lambda: form.schema.record(row, folders, lossy)

    with closing(read_rows(source, bar=True)) as rows:
        counted = _Counted(_made(map(record_of, rows), skip_faulty))
        form.container.write(target, counted, source.parent / folders.media)
    return counted.count


class _Counted:
    """What passes, counted."""

    def __init__(self, passing: Iterable[Any]) -> None:
        self.passing, self.count = passing, 0

    def __iter__(self) -> Iterator[Any]:
        for each in self.passing:
            self.count += 1
            yield each


def _made(entries: Iterable[tuple[str, Callable[[], Any]]], skip_faulty: bool) -> Iterator[Any]:
    """Make one thing of each entry; its errors name the entry's place."""
    num_left_out = 0
    for where, make in entries:
        try:
            made = make()
        except ValueError as error:
            if not skip_faulty:
                raise ValueError(f"{where}: {error}") from error
            num_left_out += 1
            if num_left_out <= MAX_WARNINGS:
                logger.warning("left out: %s: %s", where, error)
            continue
        yield made
    if num_left_out:
        logger.warning("%d left out in all", num_left_out)
