"""Tensors that frozen parts compute, kept in the user's cache by content."""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

SHARD_SIZE = 512


class TensorCache:
    """Tensors of one frozen part, found by the hash of what they were computed from.

    The folder is named by the part's fingerprint, so tensors of another revision are never used.
    Shards of ``SHARD_SIZE`` tensors are written as they are done: an interrupted build goes on
    where it stopped. What was asked for stays in memory.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Open the cache of one part.

        Args:
            folder: Holds the caches of all parts.
            fingerprint: Names the part's weights and configuration.
        """
        self.folder = folder / fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place: dict[str, Path] = {}
        self._memory: dict[str, Tensor] = {}
        for shard in sorted(self.folder.glob("*.safetensors")):
            with safe_open(shard, "pt") as file:
                self._place.update(dict.fromkeys(file.keys(), shard))

    def get(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], Tensor],
        batch_size: int = 32,
        label: str = "computing",
    ) -> dict[str, Tensor]:
        """Return the tensor of every key, computing those that are not there.

        Args:
            keys: Hashes of what the tensors are computed from.
            compute: Given indices into ``keys``, returns their tensors stacked.
            batch_size: Indices in one call of ``compute``.
            label: Stands at the progress bar.
        """
        first_index = {key: index for index, key in reversed(list(enumerate(keys)))}
        missing = [index for key, index in first_index.items() if key not in self._place]
        with tqdm(total=len(missing), desc=label, disable=len(missing) < 2 * batch_size) as bar:
            for start in range(0, len(missing), SHARD_SIZE):
                shard = missing[start : start + SHARD_SIZE]
                tensors: dict[str, Tensor] = {}
                for batch in (shard[i : i + batch_size] for i in range(0, len(shard), batch_size)):
                    for index, tensor in zip(batch, compute(batch), strict=True):
                        # safetensors takes neither views nor transposed tensors.
                        contiguous = tensor.clone(memory_format=torch.contiguous_format)
                        tensors[keys[index]] = contiguous
                    bar.update(len(batch))
                self._write(tensors)
        for shard_path in {self._place[key] for key in first_index.keys() - self._memory.keys()}:
            self._memory.update(load_file(shard_path))
        return {key: self._memory[key] for key in first_index}

    def _write(self, tensors: dict[str, Tensor]) -> None:
        name = hashlib.sha256("\n".join(sorted(tensors)).encode()).hexdigest()[:16]
        path = self.folder / f"{name}.safetensors"
        # Ranks on several machines may write the same shard.
        partial = path.with_suffix(f".{uuid.uuid4().hex[:12]}.partial")
        save_file(tensors, partial)
        partial.rename(path)
        self._place.update(dict.fromkeys(tensors, path))


def text_key(text: str) -> str:
    """Hash of a caption."""
    return hashlib.sha256(text.encode()).hexdigest()


def stack(found: dict[str, Tensor], keys: Sequence[str]) -> Tensor:
    """Stack cached tensors in the order of ``keys``."""
    return torch.stack([found[key] for key in keys])
