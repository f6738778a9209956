"""Webdataset shards: tar files of samples, a medium with its caption and its facts each."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Generator, Iterable, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from nextgpt.data.formats.containers import Container, Placed
from nextgpt.data.json_lines import opened
from nextgpt.media.base import staged_folder
from nextgpt.messages import check_relative

FILE = "file"
"""Key of a record: its medium, in the folder of media."""

TAR_END = bytes(1024)
"""What every whole tar file ends with."""
SIDE_FILES = ("txt", "json")


class Shards(Container):
    """A folder of tar files, or one: ``KEY.jpg``, ``KEY.txt`` and ``KEY.json`` side by side.

    As img2dataset and video2dataset write them. A record is the JSON object, with the text as
    ``caption``, the name as ``key`` and the medium taken out as ``file``.
    """

    carries_media = True

    def __init__(self, samples_a_shard: int = 10_000) -> None:
        """Say how large written shards are."""
        self.samples_a_shard = samples_a_shard

    def read(self, path: Path, keys: Sequence[str], media: Path) -> Generator[Placed]:
        """See ``Container.read``; members other than files below the folder are refused."""
        shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not shards:
            raise ValueError(f"{path}: holds no .tar file; name a folder of shards, or one")
        for shard in shards:
            _check_end(shard)
        for shard in shards:
            try:
                yield from _samples(shard, media)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ValueError(f"{shard}: damaged or truncated ({error})") from error

    def write(self, path: Path, records: Iterable[dict[str, Any]], media: Path) -> None:
        """See ``Container.write``; ``path`` is a new folder."""
        with staged_folder(path) as folder:
            numbered = enumerate(records)
            size = self.samples_a_shard
            for shard, samples in groupby(numbered, key=lambda pair: pair[0] // size):
                with tarfile.open(folder / f"{shard:05d}.tar", "w", dereference=True) as tar:
                    for _, record in samples:
                        _add_sample(tar, record, media)


def _check_end(shard: Path) -> None:
    """Refuse a tar file that was cut between two members, which tarfile takes for a whole one."""
    with opened(shard, bar=False) as file:
        file.seek(max(0, shard.stat().st_size - len(TAR_END)))
        if file.read() != TAR_END:
            raise ValueError(f"{shard}: truncated, or no tar file; copy it again")


def _samples(shard: Path, media: Path) -> Generator[Placed]:
    with opened(shard) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        members = ((_checked(member, shard), member) for member in tar)
        files = ((name, member) for name, member in members if not member.isdir())
        for key, sample in groupby(files, key=lambda pair: _key(pair[0])):
            record: dict[str, Any] = {}
            where = f"{shard}, sample {key}"
            for name, member in sample:
                data = tar.extractfile(member)
                assert data is not None, "only files are left"
                kind = name[len(key) + 1 :]
                if kind == "json":
                    record = _facts(data.read(), where) | record
                elif kind == "txt":
                    record["caption"] = data.read().decode()
                elif FILE in record:
                    raise ValueError(f"{where}: has two media, {record[FILE]} and {name}")
                else:
                    record[FILE] = f"{shard.stem}/{name}"
                    target = media / record[FILE]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as copy:
                        shutil.copyfileobj(data, copy)
            yield where, {**record, "key": key}


def _checked(member: tarfile.TarInfo, shard: Path) -> str:
    """The name of a member that is a file or a folder below the archive's own.

    Raises:
        ValueError: it is a link or a device, or its name leads elsewhere.
    """
    if not member.isfile() and not member.isdir():
        raise ValueError(f"{shard}: {member.name!r} is a link or a device; nothing was taken out")
    check_relative(member.name, f"{shard}, member name")
    return str(PurePosixPath(member.name))


def _key(name: str) -> str:
    """The name up to the first dot behind the last slash: what the files of a sample share."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _facts(data: bytes, where: str) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{where}: its .json is not JSON ({error})") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{where}: its .json holds {type(facts).__name__} where an object belongs")
    return facts


def _add_sample(tar: tarfile.TarFile, record: dict[str, Any], media: Path) -> None:
    facts = {name: value for name, value in record.items() if name != FILE}
    source, key = media / record[FILE], record["key"]
    if "." in key or "/" in key:
        raise ValueError(f"id {key!r} has a dot or a slash, which names in shards give a meaning")
    if not source.is_file():
        raise ValueError(f"{source}: no such file; a shard holds the media themselves")
    tar.add(source, f"{key}{source.suffix}", recursive=False)
    sides = (record["caption"], json.dumps(facts, ensure_ascii=False))
    for kind, text in zip(SIDE_FILES, sides, strict=True):
        data = text.encode()
        member = tarfile.TarInfo(f"{key}.{kind}")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
