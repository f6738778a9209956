"""Tensors that frozen parts compute, kept in the user's cache by content."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

SHARD_SIZE = 512
SHARD_BYTES = 64 * 2**20
"""A shard is written when it holds so many tensors or bytes: what a broken-off build loses."""

MAX_OPEN_SHARDS = 256
"""Shards that are mapped into memory at the same time; others are opened again when needed."""


class TensorCache:
    """Tensors of one frozen part, found by the hash of what they were computed from.

    The folder is named by the part's fingerprint, and so is every shard inside: tensors of another
    revision are not found, and refused where somebody put them. Shards are written as they are
    done: an interrupted build goes on where it stopped. They are read by mapping them into memory,
    so that only the keys stay there.
    """

    def __init__(
        self, folder: Path | None, fingerprint: str, dtype: torch.dtype | None = None
    ) -> None:
        """Open the cache of one part.

        Args:
            folder: Holds the caches of all parts; None to keep nothing and compute always.
            fingerprint: Names the part's weights and configuration.
            dtype: Floating point type that tensors are kept in, their own by default; caches of
                different types lie beside each other.

        Raises:
            ValueError: a shard is of another part, or cannot be read.
        """
        self.part = fingerprint if dtype is None else f"{fingerprint}-{str(dtype).split('.')[1]}"
        self.dtype = dtype
        self._place: dict[str, Path] = {}
        self._opened = lru_cache(MAX_OPEN_SHARDS)(partial(safe_open, framework="pt"))
        self.folder = None if folder is None else folder / self.part
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for shard in sorted(self.folder.glob("*.safetensors")):
            self._place.update(dict.fromkeys(self._keys_of(shard), shard))

    def _keys_of(self, shard: Path) -> list[str]:
        try:
            with safe_open(shard, "pt") as file:
                part = (file.metadata() or {}).get("part", self.part)
                keys = file.keys()
        except SafetensorError as error:
            raise ValueError(
                f"{shard}: not a shard of a cache ({error}); delete it, what it held is computed "
                "again"
            ) from error
        if part != self.part:
            raise ValueError(
                f"{shard}: holds tensors of part {part}, not of {self.part}; move it to the folder "
                f"{part} or delete it"
            )
        return list(keys)

    def build(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], Iterable[Tensor]],
        batch_size: int = 32,
        label: str = "computing",
    ) -> None:
        """Compute and keep what is not there; see ``get``."""
        if self.folder is None:
            return
        shard: dict[str, Tensor] = {}
        for key, tensor in self._computed(keys, compute, batch_size, label):
            shard[key] = tensor
            if len(shard) == SHARD_SIZE or len(shard) * tensor.nbytes >= SHARD_BYTES:
                self._write(self.folder, shard)
                shard = {}
        if shard:
            self._write(self.folder, shard)

    def get(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], Iterable[Tensor]],
        batch_size: int = 32,
        label: str = "computing",
    ) -> dict[str, Tensor]:
        """Return the tensor of every key, computing those that are not there.

        Args:
            keys: Hashes of what the tensors are computed from.
            compute: Given indices into ``keys``, returns their tensors.
            batch_size: Indices in one call of ``compute``.
            label: Stands at the progress bar.
        """
        if self.folder is None:
            return dict(self._computed(keys, compute, batch_size, label))
        self.build(keys, compute, batch_size, label)
        return {key: self._opened(self._place[key]).get_tensor(key) for key in keys}

    def _computed(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], Iterable[Tensor]],
        batch_size: int,
        label: str,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield every key that is not there yet, once, with its tensor."""
        first_index = {key: index for index, key in reversed(list(enumerate(keys)))}
        missing = [index for key, index in first_index.items() if key not in self._place]
        with tqdm(total=len(missing), desc=label, disable=len(missing) < 2 * batch_size) as bar:
            for batch in (missing[i : i + batch_size] for i in range(0, len(missing), batch_size)):
                for index, tensor in zip(batch, compute(batch), strict=True):
                    kept = tensor.to(self.dtype or tensor.dtype)
                    # safetensors takes neither views nor transposed tensors.
                    yield keys[index], kept.clone(memory_format=torch.contiguous_format)
                bar.update(len(batch))

    def _write(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        name = hashlib.sha256("\n".join(sorted(tensors)).encode()).hexdigest()[:16]
        path = folder / f"{name}.safetensors"
        # Several processes may write the same shard.
        partial_path = path.with_suffix(f".{uuid.uuid4().hex[:12]}.partial")
        save_file(tensors, partial_path, {"part": self.part})
        partial_path.rename(path)
        self._place.update(dict.fromkeys(tensors, path))


@dataclass(frozen=True)
class Wanted:
    """Tensors that are wanted of a cache.

    Attributes:
        cache: Where they are, or will be.
        keys: n hashes of what they are computed from.
        compute: Given indices into ``keys``, returns their tensors.
        label: Stands at the progress bar.
    """

    cache: TensorCache
    keys: list[str]
    compute: Callable[[list[int]], Iterable[Tensor]]
    label: str

    def build(self) -> None:
        """Compute and keep what is not there; nothing is read."""
        self.cache.build(self.keys, self.compute, label=self.label)

    def tensors(self) -> list[Tensor]:
        """One a key, float32, in the order of the keys."""
        found = self.cache.get(self.keys, self.compute, label=self.label)
        return [found[key].float() for key in self.keys]


def text_key(text: str) -> str:
    """Hash of a caption."""
    return hashlib.sha256(text.encode()).hexdigest()
