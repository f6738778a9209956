"""Conversations out of manifests: read one by one, each once a round, however many there are."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tiny_chain import medium

from nextgpt.data.batches import Mixture
from nextgpt.data.manifest_conversations import ManifestConversations, RowIndex
from nextgpt.data.row_conversations import Choice, shuffled
from nextgpt.data.rows import Row, write_rows

pytestmark = pytest.mark.usefixtures("own_cache")


def pair(number: int, split: str = "train", source: str = "test") -> Row:
    picture = {"type": "image", "path": f"media/{number}.png", "caption": f"picture {number}"}
    messages = [
        {"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": f"It is {number}. 犬"},
    ]
    return Row(str(number), messages, source=source, split=split)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.jsonl"
    write_rows(path, [pair(number, "validation" if number % 5 == 0 else "train",
                           "a" if number % 2 else "b") for number in range(50)])  # fmt: skip
    # Blank lines take their place among the bytes.
    path.write_text(path.read_text().replace("\n", "\n\n", 7))
    return path


def numbers(source: ManifestConversations, indices: range) -> list[int]:
    return [
        int(source.conversation(index).messages[1].text.split()[2].rstrip(".")) for index in indices
    ]


def test_every_row_of_the_split_comes_once_a_round_in_another_order(manifest: Path) -> None:
    source = ManifestConversations(manifest)
    wanted = [number for number in range(50) if number % 5]
    rounds = [numbers(source, range(start, start + 40)) for start in (0, 40)]
    assert sorted(rounds[0]) == sorted(rounds[1]) == wanted
    assert rounds[0] != rounds[1]
    assert rounds[0] != wanted
    assert numbers(source, range(40)) == rounds[0]
    assert numbers(ManifestConversations(manifest, seed=1), range(40)) != rounds[0]


def test_ranks_that_take_every_nth_share_the_rows(manifest: Path) -> None:
    parts = [numbers(ManifestConversations(manifest), range(rank, 40, 4)) for rank in range(4)]
    assert sorted(itertools.chain(*parts)) == [number for number in range(50) if number % 5]


def test_rows_are_chosen_by_split_and_source(manifest: Path) -> None:
    source = ManifestConversations(manifest, split="validation", source="a")
    assert sorted(numbers(source, range(len(source.rows)))) == [5, 15, 25, 35, 45]
    with pytest.raises(ValueError, match="no rows of split 'test' and source 'c'"):
        len(ManifestConversations(manifest, split="test", source="c").rows)


def test_sources_of_one_manifest_are_mixed_by_weights(manifest: Path) -> None:
    sources = [ManifestConversations(manifest, source=name) for name in ("a", "b")]
    mixture = Mixture(sources, [1, 3], seed=0, size=600)
    counts = Counter(
        int(mixture[index].messages[1].text.split()[2].rstrip(".")) % 2 for index in range(600)
    )
    # Three standard deviations of a share of a quarter of 600 are 0.053.
    assert counts[1] / 600 == pytest.approx(0.25, abs=0.06)


def test_a_pair_is_turned_for_either_alignment(manifest: Path) -> None:
    shown = ManifestConversations(manifest, turn="medium_to_caption").conversation(3)
    asked = ManifestConversations(manifest, turn="caption_to_medium").conversation(3)
    assert [type(part).__name__ for part in shown.messages[0].parts] == ["Image"]
    assert shown.messages[1].parts == asked.messages[0].parts
    (picture,) = asked.messages[1].images
    assert [picture.caption] == asked.messages[0].parts
    assert picture.path == manifest.parent.resolve() / f"media/{picture.caption[8:]}.png"


def test_media_are_those_of_the_folder(manifest: Path) -> None:
    medium("image").save(manifest.parent / "media" / "5.png")
    source = ManifestConversations(manifest, split="validation", source="a")
    pictures = [source.conversation(index).messages[0].images[0] for index in range(5)]
    (picture,) = [each for each in pictures if each.caption == "picture 5"]
    assert picture.size == (32, 32)


def test_media_are_listed_only_on_request(manifest: Path) -> None:
    assert not ManifestConversations(manifest).media()
    source = ManifestConversations(manifest, precompute=True)
    assert len(source.media()) == 40
    assert not source.captions()
    asked = ManifestConversations(manifest, precompute=True, turn="caption_to_medium")
    assert not asked.media()
    assert len(asked.captions()) == 40


def test_faults_are_found_before_training(manifest: Path) -> None:
    line = manifest.read_text().partition("\n")[0]
    bare = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]
    write_rows(manifest, [pair(1), pair(2), Row("3", bare)])
    assert len(ManifestConversations(manifest).rows) == 3
    source = ManifestConversations(manifest, turn="medium_to_caption")
    with pytest.raises(ValueError, match=r"line 3: has no medium with a caption"):
        source.prepare(None)
    manifest.write_text(f"{line}\n{line[:-9]}\n")
    with pytest.raises(ValueError, match=r"manifest\.jsonl, line 2: not JSON"):
        ManifestConversations(manifest).prepare(None)
    with pytest.raises(ValueError, match="gone.jsonl: no such file"):
        ManifestConversations(manifest.parent / "gone.jsonl").prepare(None)
    with pytest.raises(ValueError, match="turn 'sideways' is unknown"):
        ManifestConversations(manifest, turn="sideways")  # type: ignore[arg-type]


def test_a_changed_manifest_has_another_index(manifest: Path, own_cache: Path) -> None:
    assert len(ManifestConversations(manifest).rows) == 40
    before = set((own_cache / "manifests").iterdir())
    assert len(ManifestConversations(manifest).rows) == 40
    assert set((own_cache / "manifests").iterdir()) == before
    write_rows(manifest, map(pair, range(7)))
    assert len(ManifestConversations(manifest).rows) == 7
    assert len(set((own_cache / "manifests").iterdir()) - before) == 1


def test_a_manifest_changed_under_a_run_is_told(manifest: Path) -> None:
    rows = RowIndex(manifest, Choice("train"))
    assert rows.read(0)[0].id == "1"
    write_rows(manifest, [pair(2), pair(1)])
    with pytest.raises(ValueError, match="changed since training began"):
        rows.read(0)


def test_the_record_of_a_run_tells_rows_and_hash(manifest: Path) -> None:
    first = ManifestConversations(manifest).provenance()
    assert (first["split"], first["rows"]) == ("train", 40)
    write_rows(manifest, map(pair, range(7)))
    assert ManifestConversations(manifest).provenance()["manifest"] != first["manifest"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 64, 65, 1000])
def test_an_order_holds_every_number_once(size: int) -> None:
    orders = [[shuffled(index, size, seed) for index in range(size)] for seed in ("a", "b")]
    assert all(sorted(order) == list(range(size)) for order in orders)
    if size > 16:
        assert orders[0] != orders[1]


def test_an_order_is_a_random_one() -> None:
    size = 4096
    order = [shuffled(index, size, "seed") for index in range(size)]
    # Neighbours are a third of the range apart on average; as far as any number of a random order.
    steps = [abs(a - b) for a, b in itertools.pairwise(order)]
    assert sum(steps) / len(steps) == pytest.approx(size / 3, rel=0.05)  # measured 0.01
    halves = Counter((index < size // 2, place < size // 2) for index, place in enumerate(order))
    assert max(halves.values()) / size == pytest.approx(0.25, abs=0.03)  # measured 0.006


def test_only_pages_in_use_are_in_memory(tmp_path: Path, own_cache: Path) -> None:
    """Peak memory of a process that reads 2000 conversations of few and of many rows."""
    program = (
        "import re, sys\nfrom pathlib import Path\n"
        "from nextgpt.data.manifest_conversations import ManifestConversations\n"
        "source = ManifestConversations(Path(sys.argv[1]))\n"
        "for index in range(2000): source.conversation(index)\n"
        "print(*re.findall(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text()))"
    )
    peaks = []
    for num_rows in (1_000, 40_000):
        path = tmp_path / f"{num_rows}.jsonl"
        write_rows(path, map(pair, range(num_rows)))
        _ = ManifestConversations(path).rows
        run = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NEXTGPT_CACHE": str(own_cache)},
        )
        peaks.append(int(run.stdout))
    assert peaks[1] - peaks[0] < 4000  # kB; the larger manifest has 9 MB
