"""The tensor cache: computed once, kept by content and by part, resumed where it was broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nextgpt.data import cache as cache_module
from nextgpt.data.cache import TensorCache, Wanted, text_key


class Computer:
    """Turns words into their length and remembers which it was asked for."""

    def __init__(self, words: list[str], dies_at: str | None = None) -> None:
        self.words = words
        self.dies_at = dies_at
        self.batches: list[list[str]] = []

    def __call__(self, indices: list[int]) -> Tensor:
        words = [self.words[index] for index in indices]
        self.batches.append(words)
        if self.dies_at in words:
            raise KeyboardInterrupt
        return torch.tensor([[float(len(word))] for word in words])

    @property
    def computed(self) -> list[str]:
        return sorted(word for batch in self.batches for word in batch)


def lengths(found: dict[str, Tensor]) -> dict[str, float]:
    return {key: float(value) for key, value in found.items()}


def get(cache: TensorCache, words: list[str], batch_size: int = 32) -> Computer:
    """Ask for words, whose keys are themselves, and check what comes."""
    computer = Computer(words)
    assert lengths(cache.get(words, computer, batch_size)) == {word: len(word) for word in words}
    return computer


def test_each_tensor_is_computed_once(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, "part")
    assert get(cache, ["a", "bb", "a"]).computed == ["a", "bb"]
    assert get(cache, ["bb", "ccc"]).computed == ["ccc"]
    assert get(cache, ["ccc", "a", "bb"]).computed == []


def test_a_later_process_reads_what_an_earlier_one_computed(tmp_path: Path) -> None:
    get(TensorCache(tmp_path, "part"), ["a", "bb"])
    later = TensorCache(tmp_path, "part")
    assert get(later, ["bb", "a"]).computed == []
    assert get(later, ["bb", "dddd"]).computed == ["dddd"]


def test_another_revision_of_a_part_never_sees_the_tensors(tmp_path: Path) -> None:
    get(TensorCache(tmp_path, "part"), ["a"])
    assert get(TensorCache(tmp_path, "other"), ["a"]).computed == ["a"]


def test_no_batch_is_larger_than_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD_SIZE", 4)
    words = [f"{number:02d}" for number in range(10)]
    computer = get(TensorCache(tmp_path, "part"), words, batch_size=3)
    assert computer.computed == words
    assert [len(batch) for batch in computer.batches] == [3, 3, 3, 1]


def test_an_interrupted_build_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SHARD_SIZE", 2)
    words = ["a", "bb", "ccc", "dddd", "eeeee"]
    first = Computer(words)
    with pytest.raises(KeyboardInterrupt):
        first.dies_at = "ccc"
        TensorCache(tmp_path, "part").get(words, first, batch_size=1)
    done = set(first.computed) - {"ccc"}
    assert len(done) >= 2
    later = get(TensorCache(tmp_path, "part"), words).computed
    # All of the shards that were whole are there; at most one shard is computed again.
    assert len(later) <= len(words) - 2
    assert "ccc" in later


def test_a_shard_that_was_being_written_is_not_read(tmp_path: Path) -> None:
    get(TensorCache(tmp_path, "part"), ["a"])
    (shard,) = (tmp_path / "part").glob("*.safetensors")
    shard.with_name("half.partial").write_bytes(shard.read_bytes()[:20])
    later = TensorCache(tmp_path, "part")
    assert get(later, ["a", "bb"]).computed == ["bb"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_part_that_gives_too_few_or_too_many_tensors_is_caught(
    tmp_path: Path, count: int
) -> None:
    cache = TensorCache(tmp_path, "part")
    with pytest.raises(ValueError, match="zip"):
        cache.get(["a", "b"], lambda indices: torch.zeros(count, 4))
    assert get(cache, ["a", "b"]).computed == ["a", "b"]


@pytest.mark.parametrize(
    "layout", [lambda t: t, lambda t: t.transpose(1, 2), lambda t: t.bfloat16()]
)
def test_tensors_of_any_layout_and_type_come_back(
    tmp_path: Path, layout: Callable[[Tensor], Tensor]
) -> None:
    tensor = layout(torch.arange(24.0).reshape(2, 3, 4))
    TensorCache(tmp_path, "part").get(["a", "b"], lambda indices: tensor[indices])
    again = TensorCache(tmp_path, "part").get(["a", "b"], lambda indices: torch.zeros(0))
    assert again["b"].dtype == tensor.dtype
    assert torch.equal(torch.stack([again["a"], again["b"]]), tensor)


def test_wanted_tensors_come_in_the_order_asked_for(tmp_path: Path) -> None:
    words = ["bb", "a", "bb"]
    for cache in (TensorCache(tmp_path, "part", torch.float16), TensorCache(None, "part")):
        wanted = Wanted(cache, words, Computer(words), "lengths")
        wanted.build()
        tensors = wanted.tensors()
        assert [tensor.tolist() for tensor in tensors] == [[2.0], [1.0], [2.0]]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_half_precision_takes_half_the_disk_and_lies_beside_full_precision(tmp_path: Path) -> None:
    tensors = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(0))
    found = {}
    for dtype in (None, torch.float16):
        cache = TensorCache(tmp_path, "part", dtype)
        found[dtype] = cache.get(["a", "b"], lambda indices: tensors[indices])["b"]
    assert torch.equal(found[None], tensors[1])
    assert torch.equal(found[torch.float16], tensors[1].half())
    sizes = [
        sum(shard.stat().st_size for shard in (tmp_path / name).glob("*.safetensors"))
        for name in ("part", "part-float16")
    ]
    assert sizes[1] < 0.51 * sizes[0]


def test_without_a_folder_everything_is_computed_anew_and_nothing_is_kept(tmp_path: Path) -> None:
    cache = TensorCache(None, "part")
    Wanted(cache, ["a"], Computer(["a"], dies_at="a"), "lengths").build()
    for _ in range(2):
        assert get(cache, ["a", "bb", "a"], batch_size=1).batches == [["a"], ["bb"]]


@pytest.mark.parametrize(("limit", "value"), [("SHARD_SIZE", 3), ("SHARD_BYTES", 3 * 4)])
def test_shards_are_bounded_by_number_and_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(cache_module, limit, value)
    get(TensorCache(tmp_path, "part"), [f"{number}" for number in range(8)])
    shards = list((tmp_path / "part").glob("*.safetensors"))
    assert sorted(len(safe_open(shard, "pt").keys()) for shard in shards) == [2, 3, 3]


def test_few_shards_are_open_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SHARD_SIZE", 1)
    monkeypatch.setattr(cache_module, "MAX_OPEN_SHARDS", 2)
    cache, words = TensorCache(tmp_path, "part"), [f"{number}" for number in range(8)]
    get(cache, words)
    assert get(cache, words[::-1]).computed == []
    assert cache._opened.cache_info().currsize == 2


# What cannot be used


def test_a_shard_of_another_revision_is_refused_where_somebody_put_it(tmp_path: Path) -> None:
    get(TensorCache(tmp_path, "old"), ["a"])
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(ValueError, match="holds tensors of part old, not of new"):
        TensorCache(tmp_path, "new")


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    get(TensorCache(tmp_path, "part"), ["a"])
    (shard,) = (tmp_path / "part").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ValueError, match=f"{shard.name}: not a shard .* delete it"):
        TensorCache(tmp_path, "part")
    shard.unlink()
    assert get(TensorCache(tmp_path, "part"), ["a"]).computed == ["a"]


def test_captions_are_told_apart_by_every_letter() -> None:
    captions = ["a dog", "a Dog", "a dog ", "a dög"]
    assert len({text_key(caption) for caption in captions}) == len(captions)
    assert text_key("a dog") == text_key("a" + " dog")
