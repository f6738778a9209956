"""Rows and the bytes of their media, packed into few large files: litdata's chunks.

A folder holds ``index.json`` and ``chunk-0-0.bin``, ``chunk-0-1.bin`` ..., each of n items::

    uint32 n | uint32 (n + 1) where items start, and the last one ends | items

An item is a pair of bytes: ``uint32 (2) their lengths | head | media``. The head is JSON,
``{"row": ..., "media": [lengths]}``, with a row as manifests have it; the media are the bytes of
its files, one after the other.

litdata writes them. They are read here, without it: what it does with a chunk is what the folder's
``index.json`` says, unpickling included, and of a random item it maps and lists the whole chunk.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from nextgpt.data.json_lines import MAX_LINE_BYTES, parsed
from nextgpt.data.rows import NOWHERE, Row, read_rows
from nextgpt.media import Medium
from nextgpt.media.base import staged_folder
from nextgpt.messages import Conversation, path_inside

MAX_ITEM_BYTES = 2**30
"""Of one row with its media. Places in a chunk are 32 bit numbers."""

MAX_CHUNK_MB = 1024

MAX_INDEX_BYTES = 64 * 2**20

UNUSED = frozenset({"chunk_bytes", "chunk_size", "compression_batch_size", "data_spec", "types"})
CONFIG: dict[str, Any] = {
    "data_format": ["bytes", "bytes"],
    "item_loader": "PyTreeLoader",
    "compression": None,
    "compression_level": None,
    "ipc_compression": None,
    "encryption": None,
}
"""What ``index.json`` has to say of how items are stored. Other keys must be empty, but for the
``UNUSED`` ones, which nothing here depends on."""

MAKE_AGAIN = "make the folder with `nextgpt data optimize`"


def optimize(manifest: Path, folder: Path, chunk_mb: int = 64) -> int:
    """Pack a manifest and its media; the folder appears whole or not at all.

    All rows and media are looked up before the first is written. One chunk is in memory.

    Args:
        manifest: JSON lines, see ``nextgpt.data.rows``.
        folder: A new one.
        chunk_mb: Size of the chunks; a larger row is a chunk of its own.

    Returns:
        Number of rows.

    Raises:
        ValueError: a line is no row, a medium is not there or too large; names file and line. Or
            the folder is there already, the disk is too small, or litdata is not installed.
    """
    if not 1 <= chunk_mb <= MAX_CHUNK_MB:
        raise ValueError(f"chunks of {chunk_mb} MB; choose 1 to {MAX_CHUNK_MB}")
    try:
        from litdata.streaming.writer import BinaryWriter
    except ImportError as error:
        raise ValueError(
            f"packing needs litdata ({error}); pip install 'nextgpt[streaming]'"
        ) from error
    with staged_folder(folder) as staged:
        num_rows, num_bytes = _look_up(manifest)
        if num_bytes > (free := shutil.disk_usage(staged).free):
            raise ValueError(
                f"{folder}: {num_bytes:,} bytes do not fit on a disk with {free:,} free"
            )
        writer = BinaryWriter(str(staged), chunk_bytes=chunk_mb * 2**20)
        content = hashlib.sha256()
        with (
            tqdm(total=num_rows, desc=folder.name, unit="row") as bar,
            closing(read_rows(manifest)) as rows,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "An item was larger than the target chunk size")
            for number, (where, row) in enumerate(rows):
                item = _packed(row, manifest.parent, where)
                writer.add_item(number, item)
                for each in item:
                    content.update(each)
                bar.update()
            writer.done()
        _complete_index(staged / f"{writer.rank}.index.json", content.hexdigest())
    return num_rows


def _look_up(manifest: Path) -> tuple[int, int]:
    """Look at every row and for every medium; return their number and about how many bytes."""
    num_rows, num_bytes = 0, manifest.stat().st_size if manifest.is_file() else 0
    with closing(read_rows(manifest, bar=True)) as rows:
        for where, row in rows:
            num_rows += 1
            sizes = [path.stat().st_size for path in _files(row, manifest.parent, where)]
            if sum(sizes) > MAX_ITEM_BYTES - MAX_LINE_BYTES:
                raise ValueError(
                    f"{where}: media of {sum(sizes):,} bytes; a row has room for "
                    f"{MAX_ITEM_BYTES - MAX_LINE_BYTES:,}, make them shorter"
                )
            num_bytes += sum(sizes)
    if not num_rows:
        raise ValueError(f"{manifest}: has no rows to pack")
    return num_rows, num_bytes


def _files(row: Row, folder: Path, where: str) -> Iterator[Path]:
    for _, part in row.media():
        try:
            path = path_inside(folder, part["path"], "path")
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if not path.is_file():
            raise ValueError(f"{where}: {part['path']}: no such file; check the path")
        yield path


def _packed(row: Row, folder: Path, where: str) -> tuple[bytes, bytes]:
    """Head and media of an item that was looked up."""
    try:
        media = [(folder / part["path"]).read_bytes() for _, part in row.media()]
    except OSError as error:
        raise ValueError(f"{where}: {error.filename}: {error.strerror}; start again") from error
    head = {"row": row.to_json(), "media": [len(each) for each in media]}
    return json.dumps(head, ensure_ascii=False).encode(), b"".join(media)


def _complete_index(written: Path, content: str) -> None:
    """Make ``index.json`` of the one that a writer leaves, with the hash of all items."""
    index = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    text = json.dumps(index | {"content": content}, sort_keys=True)
    (written.parent / "index.json").write_text(text, encoding="utf-8")


class ChunkFolder:
    """The items of a folder, read one by one.

    Nothing of a folder is trusted: it can be a stranger's.
    """

    def __init__(self, folder: Path) -> None:
        """Look at the index and for the chunks.

        Raises:
            ValueError: it is no folder of chunks, of another format than that above, or a chunk is
                not there or not whole; names the file and the key.
        """
        # Path("s3://a") is "s3:/a".
        if re.match(r"[A-Za-z][\w+.-]*:/", str(folder)):
            raise ValueError(f"{folder}: is an address; download the folder and name that")
        self.folder = folder
        self.index = folder / "index.json"
        if not self.index.is_file():
            raise ValueError(f"{self.index}: no such file; {MAKE_AGAIN}")
        if self.index.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError(f"{self.index}: larger than {MAX_INDEX_BYTES:,} bytes; {MAKE_AGAIN}")
        try:
            index = parsed(self.index.read_bytes())
        except ValueError as error:
            raise ValueError(f"{self.index}: {error}; {MAKE_AGAIN}") from error
        config, chunks = (
            index.get(key) if isinstance(index, dict) else None for key in ("config", "chunks")
        )
        if not isinstance(config, dict) or not isinstance(chunks, list) or not chunks:
            raise ValueError(f"{self.index}: has no config or no chunks; {MAKE_AGAIN}")
        self._check_config(config)
        self.chunks = [self._chunk(chunk, number) for number, chunk in enumerate(chunks)]
        """File, number of items and bytes of each."""
        self.starts = list(accumulate((count for _, count, _ in self.chunks), initial=0))

    def _check_config(self, config: dict[str, Any]) -> None:
        for key in CONFIG.keys() | (config.keys() - UNUSED):
            found, wanted = config.get(key), CONFIG.get(key)
            if found != wanted:
                raise ValueError(
                    f"{self.index}: config.{key} is {found!r:.100}, only {wanted!r} is read; other "
                    f"formats can run code when they are read; {MAKE_AGAIN}"
                )

    def _chunk(self, facts: Any, number: int) -> tuple[Path, int, int]:
        where = f"{self.index}: chunks[{number}]"
        keys = ("filename", "chunk_size", "chunk_bytes")
        name, num_items, num_bytes = (
            facts.get(key) if isinstance(facts, dict) else None for key in keys
        )
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.bin", name):
            raise ValueError(f"{where}.filename {name!r:.100} is no chunk in this folder")
        for key, value in (("chunk_size", num_items), ("chunk_bytes", num_bytes)):
            if type(value) is not int or not 0 < value < 2**32:
                raise ValueError(f"{where}.{key} {value!r:.60} is no number of items or bytes")
        file = path_inside(self.folder, name, f"{where}.filename")
        if not file.is_file():
            raise ValueError(f"{file}: no such file, but {self.index} names it; copy it again")
        if (found := file.stat().st_size) != num_bytes:
            raise ValueError(f"{file}: has {found:,} bytes instead of {num_bytes:,}; copy it again")
        assert num_items is not None and num_bytes is not None
        return file, num_items, num_bytes

    def __len__(self) -> int:
        """Number of items."""
        return self.starts[-1]

    def rows(self) -> Iterator[tuple[int, str, Row]]:
        """Go through all items, without their media.

        Yields:
            The item's number, from 0, its place for errors, and the row.

        Raises:
            ValueError: an item is broken.
        """
        for (path, num_items, num_bytes), start in zip(self.chunks, self.starts, strict=False):
            with path.open("rb") as file:
                if _unpacked("<I", file) != (num_items,):
                    raise ValueError(f"{path}: does not hold {num_items} items; copy it again")
                for number in range(num_items):
                    where = f"{path}, row {number}"
                    try:
                        row, _ = _head(file, num_items, num_bytes, number)
                    except ValueError as error:
                        raise ValueError(f"{where}: {error}") from error
                    yield start + number, where, row

    def read(self, number: int) -> tuple[Row, Conversation]:
        """Read an item: the row, and the conversation with the bytes of its media.

        Raises:
            ValueError: the item is broken.
        """
        chunk = bisect_right(self.starts, number) - 1
        path, num_items, num_bytes = self.chunks[chunk]
        inside = number - self.starts[chunk]
        where = f"{path}, row {inside}"
        # Opened anew each time, so that processes that share this object do not share a place.
        with path.open("rb") as file:
            try:
                row, sizes = _head(file, num_items, num_bytes, inside)
                contents = [_exactly(file, size) for size in sizes]
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        return row, _conversation(row, contents, where)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the file ends before it; copy it again")
    return data


def _unpacked(form: str, file: BinaryIO) -> tuple[int, ...]:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))


def _head(file: BinaryIO, num_items: int, num_bytes: int, number: int) -> tuple[Row, list[int]]:
    """Read the head of an item: the row, and the sizes of the media that follow.

    Raises:
        ValueError: the item is broken.
    """
    file.seek(4 * (1 + number))
    start, end = _unpacked("<II", file)
    if not 4 * (num_items + 2) <= start <= end - 8 <= num_bytes - 8 or end - start > MAX_ITEM_BYTES:
        raise ValueError(f"bytes {start} to {end} of {num_bytes} are no item; copy it again")
    file.seek(start)
    head_size, media_size = _unpacked("<II", file)
    if 8 + head_size + media_size != end - start or head_size > MAX_LINE_BYTES:
        raise ValueError(f"{head_size} + {media_size} bytes in {end - start}; copy it again")
    head = parsed(_exactly(file, head_size))
    if not isinstance(head, dict) or head.keys() != {"row", "media"}:
        raise ValueError(f"has no row and media; {MAKE_AGAIN}")
    row, sizes = Row.from_json(head["row"]), head["media"]
    if (
        not isinstance(sizes, list)
        or any(type(size) is not int or size < 0 for size in sizes)
        or len(sizes) != sum(1 for _ in row.media())
        or sum(sizes) != media_size
    ):
        raise ValueError(f"media of {sizes!r:.60} bytes are not those of the row; {MAKE_AGAIN}")
    return row, sizes


def _conversation(row: Row, contents: list[bytes], where: str) -> Conversation:
    """The conversation of a row, whose media are bytes."""
    conversation = Conversation.from_json({"messages": row.messages}, NOWHERE, look_up=False)
    left = iter(contents)
    for message in conversation.messages:
        for place, part in enumerate(message.parts):
            if isinstance(part, Medium):
                held = type(part)(next(left), caption=part.caption, seed=part.seed)
                held.label = f"{where}: {part.path}"
                message.parts[place] = held
    return conversation
