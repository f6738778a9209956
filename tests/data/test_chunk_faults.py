"""Folders of chunks that strangers made or that are broken: refused by name, nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chunk_rows import NUM_ROWS, NUM_TRAIN, manifest_of_media, row

from nextgpt.data.chunked_conversations import ChunkedConversations
from nextgpt.data.chunks import CONFIG, MAX_INDEX_BYTES, ChunkFolder, optimize
from nextgpt.data.row_conversations import media_of
from nextgpt.data.rows import write_rows
from nextgpt.media import MediaError

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.usefixtures("own_cache")
pytest.importorskip("litdata")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return manifest_of_media(tmp_path_factory.mktemp("manifest"))


@pytest.fixture(scope="module")
def packed(manifest: Path) -> Path:
    folder = manifest.parent / "chunks"
    assert optimize(manifest, folder, chunk_mb=1) == NUM_ROWS
    return folder


@pytest.fixture
def changed(packed: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(packed, tmp_path / "chunks")


def edit(folder: Path, **config: Any) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["config"] |= config
    (folder / "index.json").write_text(json.dumps(index))


def edit_chunk(folder: Path, **facts: Any) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["chunks"][0] |= facts
    (folder / "index.json").write_text(json.dumps(index))


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_pickles_are_refused_and_not_opened(tmp_path: Path) -> None:
    item = pickle.dumps(Bomb(tmp_path / "exploded"))
    item = struct.pack("<I", len(item)) + item
    chunk = struct.pack("<III", 1, 12, 12 + len(item)) + item
    (tmp_path / "chunk-0-0.bin").write_bytes(chunk)
    index = {
        "chunks": [{"filename": "chunk-0-0.bin", "chunk_size": 1, "chunk_bytes": len(chunk)}],
        "config": CONFIG | {
            "data_format": ["pickle"],
            "data_spec": '[1, {"type": null, "context": null, "children_spec": []}]',
            "chunk_bytes": 100, "chunk_size": None,
        },
    }  # fmt: skip
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: config\.data_format is \['pickle'\]"):
        ChunkedConversations(tmp_path).prepare(None)
    assert not (tmp_path / "exploded").exists()
    # litdata would have run it.
    from litdata import StreamingDataset

    StreamingDataset(str(tmp_path))[0]
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_format", ["bytes", "no_header_tensor:1"]),
        ("data_format", None),
        ("item_loader", "TokensLoader"),
        ("compression", "zstd"),
        ("encryption", {"algorithm": "fernet"}),
        ("surprise", 1),
    ],
)
def test_other_formats_are_refused_by_their_key(changed: Path, key: str, value: object) -> None:
    edit(changed, **{key: value})
    with pytest.raises(ValueError, match=rf"index\.json: config\.{key} is .* only .* is read"):
        ChunkFolder(changed)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"filename": "../chunk-0-0.bin"}, r"chunks\[0\]\.filename '\.\./chunk-0-0\.bin' is no"),
        ({"filename": "a/b.bin"}, "filename 'a/b.bin' is no chunk"),
        ({"filename": "/etc/passwd"}, "filename '/etc/passwd' is no chunk"),
        ({"filename": 3}, "filename 3 is no chunk"),
        ({"filename": "link.bin"}, "filename: 'link.bin' is outside of"),
        ({"filename": "gone.bin"}, "gone.bin: no such file"),
        ({"chunk_size": -1}, r"chunks\[0\]\.chunk_size -1 is no number"),
        ({"chunk_size": 10**30}, "chunk_size 10{30} is no number"),
        ({"chunk_bytes": "9"}, "chunk_bytes '9' is no number"),
        ({"chunk_bytes": 9}, r"chunk-0-0\.bin: has .* bytes instead of 9"),
        ({"chunk_size": 1}, r"chunk-0-0\.bin: does not hold 1 items"),
    ],
)
def test_chunks_that_are_not_there_are_refused(
    changed: Path, facts: dict[str, Any], message: str
) -> None:
    (changed / "link.bin").symlink_to("/etc/passwd")
    edit_chunk(changed, **facts)
    with pytest.raises(ValueError, match=message):
        ChunkedConversations(changed).prepare(None)


@pytest.mark.parametrize("address", ["s3://bucket/set", "https://host/set", "hf:/a/b"])
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is an address; download"):
        ChunkedConversations(Path(address)).prepare(None)


def test_a_truncated_chunk_is_one_error_that_names_it(changed: Path) -> None:
    chunk = changed / "chunk-0-0.bin"
    source = ChunkedConversations(changed)
    source.prepare(None)
    os.truncate(chunk, chunk.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"chunk-0-0\.bin: has [\d,]+ bytes instead of [\d,]+"):
        ChunkedConversations(changed).prepare(None)
    os.truncate(chunk, 60)
    with pytest.raises(ValueError, match=r"chunk-0-0\.bin, row \d+: the file ends before it"):
        for index in range(NUM_TRAIN):
            source.conversation(index)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (4, 2**32 - 1, "row 0: bytes 4294967295 to .* are no item"),
        (8, 2**32 - 1, "row 0: bytes .* to 4294967295 of .* are no item"),
        (None, 2**31, r"row 0: 2147483648 \+ .* bytes in"),
    ],
)
def test_places_outside_of_the_chunk_are_refused(
    changed: Path, place: int | None, value: int, message: str
) -> None:
    with (changed / "chunk-0-0.bin").open("r+b") as file:
        if place is None:
            file.seek(4)
            (place,) = struct.unpack("<I", file.read(4))
        file.seek(place)
        file.write(struct.pack("<I", value))
    with pytest.raises(ValueError, match=message):
        ChunkedConversations(changed, "validation").prepare(None)


@pytest.mark.parametrize("text", ["", "[" * 10**5, "[]", "{}", '{"config": {}, "chunks": []}'])
def test_an_index_that_is_none_is_refused(changed: Path, text: str) -> None:
    (changed / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json: .*make the folder with"):
        ChunkFolder(changed)


def test_an_index_of_any_size_is_not_read(changed: Path) -> None:
    os.truncate(changed / "index.json", MAX_INDEX_BYTES + 1)
    with pytest.raises(ValueError, match=r"index\.json: larger than 67,108,864 bytes"):
        ChunkFolder(changed)


def test_a_broken_medium_is_named_by_its_chunk_and_path(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "image 0.png").write_bytes(b"no picture")
    write_rows(tmp_path / "one.jsonl", [row(0)])
    optimize(tmp_path / "one.jsonl", tmp_path / "chunks")
    conversation = ChunkedConversations(tmp_path / "chunks", "validation").conversation(0)
    (picture,) = media_of(conversation)
    with pytest.raises(
        MediaError, match=r"chunk-0-0\.bin, row 0: media/image 0\.png: is not a picture"
    ):
        picture.check()
