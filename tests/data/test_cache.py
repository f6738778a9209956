"""The tensor cache: computed once, kept by content and by part, resumed where it was broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nextgpt.data import cache as cache_module
from nextgpt.data.cache import TensorCache, stack, text_key


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
    assert sorted(len(batch) for batch in computer.batches) == [1, 1, 2, 3, 3]


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
    assert torch.equal(stack(again, ["a", "b"]), tensor)


def test_tensors_are_stacked_in_the_order_asked_for(tmp_path: Path) -> None:
    found = TensorCache(tmp_path, "part").get(["a", "bb"], Computer(["a", "bb"]))
    assert stack(found, ["bb", "a", "bb"]).tolist() == [[2.0], [1.0], [2.0]]


def test_captions_are_told_apart_by_every_letter() -> None:
    captions = ["a dog", "a Dog", "a dog ", "a dög"]
    assert len({text_key(caption) for caption in captions}) == len(captions)
    assert text_key("a dog") == text_key("a" + " dog")
