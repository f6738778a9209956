"""Rows and media in chunks: the same conversations as of the manifest, and nothing is trusted."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from chunk_rows import NUM_ROWS, NUM_TRAIN, manifest_of_media, row
from quiet_trainer import quiet_trainer
from tiny_chain import medium, tiny_chain

from nextgpt.data.batches import Mixture, SimilarLengths
from nextgpt.data.chunked_conversations import ChunkedConversations
from nextgpt.data.chunks import ChunkFolder, optimize
from nextgpt.data.commands import data
from nextgpt.data.datamodule import ChainData
from nextgpt.data.manifest_conversations import ManifestConversations
from nextgpt.data.row_conversations import RowConversations, Turn, media_of
from nextgpt.data.rows import Row, write_rows
from nextgpt.messages import Conversation
from nextgpt.prompting import SequencePlan
from nextgpt.training.stage import Stage

if TYPE_CHECKING:
    from conftest import TinyParts

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


def told(conversation: Conversation) -> list[tuple]:
    """All that a conversation says and shows, the content of its media by hash."""
    return [
        (message.role, part)
        if isinstance(part, str)
        else (message.role, type(part), part.caption, part.seed, part.content_hash())
        for message in conversation.messages
        for part in message.parts
    ]


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
        assert json.loads(bytes(head))["row"] == row(number).to_json()
        assert bytes(media) == b"".join(path.read_bytes() for path in paths)


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
        "ChunkedConversations", "train", NUM_TRAIN,
    )  # fmt: skip
    assert ChunkedConversations(changed).provenance() == first
    index = changed / "index.json"
    index.write_text(index.read_text() + "\n")
    assert ChunkedConversations(changed).provenance()["chunks"] != first["chunks"]


# Sharing and training


def test_ranks_share_every_conversation_once(packed: Path) -> None:
    seen = []
    for rank in range(2):
        mixture = Mixture([ChunkedConversations(packed)], [1.0], seed=0, size=2**31)

        def plan(index: int, mixture: Mixture = mixture) -> SequencePlan:
            number = int(mixture[index].messages[0].text.split()[-1].rstrip("."))
            return SequencePlan(torch.full((1 + index % 5,), number), torch.zeros(0), [], [])

        batches = SimilarLengths([plan], 3, seed=0, window=5)
        batches.rank, batches.num_ranks = rank, 2
        taken = list(itertools.islice(batches, 15))
        seen.append([int(plan.input_ids[0]) for batch in taken for plan in batch])
    assert [len(each) for each in seen] == [45, 45]
    assert sorted(seen[0] + seen[1]) == [number for number in range(NUM_ROWS) if number % 4]


def test_two_processes_read_one_folder(packed: Path, own_cache: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "sys.modules['litdata'] = None\n"  # reading does without it
        "from nextgpt.data.chunked_conversations import ChunkedConversations\n"
        "source = ChunkedConversations(Path(sys.argv[1]))\n"
        "for index in range(int(sys.argv[2]), int(sys.argv[3]), 2):\n"
        "    print(source.conversation(index).messages[0].text.split()[-1].rstrip('.'))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(packed), str(rank), str(NUM_TRAIN)],
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
        (row(5), r"faulty\.jsonl, line 3: media/audio 1.wav: no such file"),
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
    for name in ("image 0.png", "image 1.png"):
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


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    large = tmp_path / "media" / "image 0.png"
    large.touch()
    os.truncate(large, 2**30)  # of holes
    write_rows(tmp_path / "one.jsonl", [row(0)])
    with pytest.raises(ValueError, match=r"one\.jsonl, line 1: media of 1,073,741,824 bytes"):
        optimize(tmp_path / "one.jsonl", tmp_path / "chunks")
    os.truncate(large, 2**29)
    number = shutil.disk_usage(tmp_path).free // 2**29 + 100
    write_rows(tmp_path / "many.jsonl", itertools.repeat(row(0), number))
    with pytest.raises(ValueError, match="bytes do not fit on a disk with"):
        optimize(tmp_path / "many.jsonl", tmp_path / "chunks")
