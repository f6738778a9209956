"""Rows and media in chunks: the same conversations as of the manifest, and nothing is trusted."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quiet_trainer import quiet_trainer
from tiny_chain import medium, tiny_chain

from nextgpt.data.chunked_conversations import ChunkedConversations
from nextgpt.data.chunks import CONFIG, ChunkFolder, optimize
from nextgpt.data.commands import data
from nextgpt.data.datamodule import ChainData, Mixture, SimilarLengths
from nextgpt.data.manifest_conversations import ManifestConversations
from nextgpt.data.row_conversations import RowConversations, Turn, media_of
from nextgpt.data.rows import Row, write_rows
from nextgpt.media import MediaError
from nextgpt.messages import Conversation
from nextgpt.modality import MODALITIES
from nextgpt.prompting import SequencePlan
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts

pytestmark = pytest.mark.usefixtures("own_cache")
pytest.importorskip("litdata")

NUM_ROWS = 40
KINDS = list(MODALITIES)


def row(number: int) -> Row:
    """One medium, from the second round of kinds on two; every fourth row of another split."""
    names = [KINDS[number % 3], *([KINDS[number // 3 % 3]] if number > 2 else [])]
    parts: list[dict[str, Any]] = [
        {
            "type": str(kind),
            "path": f"media/{kind} {number % 4}{MODALITIES[kind].file_suffix}",
            "caption": f"{kind} {number} 犬",
            "seed": number,
        }
        for kind in names
    ]
    messages = [
        {"role": "user", "content": [*parts[1:], {"type": "text", "text": f"Show me {number}."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Here."}, parts[0]]},
    ]
    split = "validation" if number % 4 == 0 else "train"
    return Row(f"row-{number}", messages, "ab"[number % 2], split=split, extra={"of": number})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "all.jsonl"
    for kind, seed in itertools.product(KINDS, range(4)):
        medium(kind, seed).save(
            path.parent / "media" / f"{kind} {seed}{MODALITIES[kind].file_suffix}"
        )
    write_rows(path, map(row, range(NUM_ROWS)))
    return path


@pytest.fixture(scope="module")
def packed(manifest: Path) -> Path:
    """Chunks of a megabyte: of sounds and videos there are some."""
    folder = manifest.parent / "chunks"
    assert optimize(manifest, folder, chunk_mb=1) == NUM_ROWS
    return folder


@pytest.fixture
def changed(packed: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(packed, tmp_path / "chunks")


def told(conversation: Conversation) -> list[tuple]:
    """All that a conversation says and shows, the content of its media by hash."""
    return [
        (message.role, part)
        if isinstance(part, str)
        else (message.role, type(part), part.caption, part.seed, part.content_hash())
        for message in conversation.messages
        for part in message.parts
    ]


def edit(folder: Path, **config: Any) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["config"] |= config
    (folder / "index.json").write_text(json.dumps(index))


def edit_chunk(folder: Path, **facts: Any) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["chunks"][0] |= facts
    (folder / "index.json").write_text(json.dumps(index))


# The same conversations


@pytest.mark.parametrize("turn", ["as_written", "medium_to_caption", "caption_to_medium"])
def test_chunks_give_the_conversations_of_the_manifest_in_its_order(
    manifest: Path, packed: Path, turn: Turn
) -> None:
    choice: dict[str, Any] = {"source": "b", "turn": turn, "seed": 7}
    files, chunks = (
        ManifestConversations(manifest, **choice),
        ChunkedConversations(packed, **choice),
    )
    assert len(files.rows) == len(chunks.rows) == NUM_ROWS // 2
    # More than a round, so that the next round's order is seen as well.
    for index in range(NUM_ROWS // 2 + 5):
        assert told(chunks.conversation(index)) == told(files.conversation(index))


def test_rows_keep_all_their_fields_and_their_order(packed: Path) -> None:
    folder = ChunkFolder(packed)
    assert len(folder.chunks) > 1
    assert len(folder) == NUM_ROWS
    wanted = [row(number).to_json() for number in range(NUM_ROWS)]
    assert [each.to_json() for _, _, each in folder.rows()] == wanted
    assert [folder.read(number)[0].to_json() for number in range(NUM_ROWS)] == wanted


def test_litdata_itself_reads_the_folder(manifest: Path, packed: Path) -> None:
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(packed))
    assert len(dataset) == NUM_ROWS
    for number in (0, 17, NUM_ROWS - 1):
        head, media = dataset[number]
        paths = [manifest.parent / part["path"] for _, part in row(number).media()]
        assert json.loads(head)["row"] == row(number).to_json()
        assert media == b"".join(path.read_bytes() for path in paths)


def test_media_need_no_files_any_more(changed: Path) -> None:
    source = ChunkedConversations(changed, split="validation")
    for index in range(len(source.rows)):
        for each in media_of(source.conversation(index)):
            each.check()
            assert each.path is None


def test_the_same_rows_and_media_have_the_same_content_hash(manifest: Path, packed: Path) -> None:
    def content(folder: Path) -> str:
        return json.loads((folder / "index.json").read_text())["content"]

    again = manifest.parent / "again"
    optimize(manifest, again, chunk_mb=3)
    assert content(again) == content(packed)
    few = manifest.parent / "few.jsonl"
    write_rows(few, map(row, range(3)))
    optimize(few, manifest.parent / "few")
    assert content(manifest.parent / "few") != content(packed)


def test_the_record_of_a_run_tells_rows_and_hash(packed: Path, changed: Path) -> None:
    first = ChunkedConversations(packed).provenance()
    assert (first["source"], first["split"], first["rows"]) == (
        "ChunkedConversations", "train", 30,
    )  # fmt: skip
    assert ChunkedConversations(changed).provenance() == first
    edit(changed, chunk_bytes=5)
    assert ChunkedConversations(changed).provenance()["chunks"] != first["chunks"]


# Sharing and training


def test_ranks_share_every_conversation_once(packed: Path) -> None:
    seen = []
    for rank in range(2):
        mixture = Mixture([ChunkedConversations(packed)], [1.0], seed=0, size=2**31)

        def plan(index: int, mixture: Mixture = mixture) -> SequencePlan:
            number = int(mixture[index].messages[0].text.split()[-1].rstrip("."))
            return SequencePlan(torch.full((1 + index % 5,), number), torch.zeros(0), [], [])

        batches = SimilarLengths(plan, 3, seed=0, window=5)
        batches.rank, batches.num_ranks = rank, 2
        taken = list(itertools.islice(batches, 5))
        seen.append([int(plan.input_ids[0]) for batch in taken for plan in batch])
    assert [len(each) for each in seen] == [15, 15]
    assert sorted(seen[0] + seen[1]) == [number for number in range(NUM_ROWS) if number % 4]


def test_two_processes_read_one_folder(packed: Path, own_cache: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "sys.modules['litdata'] = None\n"  # reading does without it
        "from nextgpt.data.chunked_conversations import ChunkedConversations\n"
        "source = ChunkedConversations(Path(sys.argv[1]))\n"
        "for index in range(int(sys.argv[2]), 30, 2):\n"
        "    print(source.conversation(index).messages[0].text.split()[-1].rstrip('.'))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(packed), str(rank)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NEXTGPT_CACHE": str(own_cache)},
        )
        for rank in range(2)
    ]
    numbers = [int(word) for each in processes for word in each.communicate()[0].split()]
    assert sorted(numbers) == [number for number in range(NUM_ROWS) if number % 4]


def test_a_chain_trains_alike_on_chunks_and_on_the_manifest(
    tiny: TinyParts, manifest: Path, packed: Path, tmp_path: Path
) -> None:
    def trained(source: RowConversations) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        stage = Stage(tiny_chain(tiny), ["signal_rows", "output_projections"])
        trainer = quiet_trainer(tmp_path, 2, check_val_every_n_epoch=None)
        trainer.fit(stage, datamodule=ChainData([source], batch_size=2))
        return {name: value.detach().clone() for name, value in stage.chain.named_parameters()}

    start = dict(tiny_chain(tiny).named_parameters())
    files, chunks = trained(ManifestConversations(manifest)), trained(ChunkedConversations(packed))
    assert all(map(torch.equal, files.values(), chunks.values()))
    assert any(not torch.equal(value, start[name]) for name, value in chunks.items())


# Packing


def test_the_command_packs_and_tells_how_many(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "chunks"
    assert data(["optimize", str(manifest), str(target), "--chunk-mb", "2"]) == 0
    assert f"{target}: {NUM_ROWS} conversations" in capsys.readouterr().out
    assert len(ChunkFolder(target)) == NUM_ROWS
    with pytest.raises(ValueError, match="chunks: exists already"):
        data(["optimize", str(manifest), str(target)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row(5), r"faulty\.jsonl, line 3: media/video 1.mp4: no such file"),
        ({"id": "1"}, r"faulty\.jsonl, line 3: messages: None is no list"),
        (
            {**row(1).to_json(), "messages": [{"role": "user", "content": [
                {"type": "image", "path": "out.png"}]}]},
            r"faulty\.jsonl, line 3: path: 'out\.png' is outside of",
        ),
    ],
)  # fmt: skip
def test_a_faulty_row_is_named_and_nothing_is_written(
    tmp_path: Path, line: Row | dict[str, Any], message: str
) -> None:
    (tmp_path / "out.png").symlink_to("/etc/passwd")
    for name in ("image 0.png", "image 3.png", "image 1.png"):
        medium("image").save(tmp_path / "media" / name)
    faulty = line.to_json() if isinstance(line, Row) else line
    rows = [row(0).to_json(), None, faulty]
    text = "\n".join("" if each is None else json.dumps(each) for each in rows)
    (tmp_path / "faulty.jsonl").write_text(text)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        optimize(tmp_path / "faulty.jsonl", tmp_path / "chunks")
    assert sorted(tmp_path.iterdir()) == before


def test_packing_that_breaks_off_leaves_nothing(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from litdata.streaming.writer import BinaryWriter

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BinaryWriter, "write_chunks_index", full)
    with pytest.raises(OSError, match="No space"):
        optimize(manifest, tmp_path / "chunks")
    assert not list(tmp_path.iterdir())


def test_empty_manifests_and_odd_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="empty.jsonl: has no rows"):
        optimize(tmp_path / "empty.jsonl", tmp_path / "chunks")
    with pytest.raises(ValueError, match="chunks of 5000 MB; choose 1 to 1024"):
        optimize(tmp_path / "empty.jsonl", tmp_path / "chunks", chunk_mb=5000)


# Strangers' folders


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
        ({"chunk_size": 39}, r"chunk-0-0\.bin: does not hold 39 items"),
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
        for index in range(30):
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


def test_a_broken_medium_is_named_by_its_chunk_and_path(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "image 0.png").write_bytes(b"no picture")
    write_rows(tmp_path / "one.jsonl", [row(0)])
    optimize(tmp_path / "one.jsonl", tmp_path / "chunks")
    conversation = ChunkedConversations(tmp_path / "chunks", "validation").conversation(0)
    (picture,) = media_of(conversation)
    with pytest.raises(MediaError, match=r"chunk-0-0\.bin, row 0: media/image 0\.png: cannot be"):
        picture.check()
