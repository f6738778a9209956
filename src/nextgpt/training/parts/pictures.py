"""The micro world's drawings as tensors, for the recipes of the image decoder."""

import hashlib
import logging
from pathlib import Path

import lightning
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.sources import cache_dir

logger = logging.getLogger(__name__)


def world_items(world: Path | None, *splits: str) -> list[Item]:
    """Return the manifest's pictures of ``splits`` that the image decoder learns from.

    Raises:
        ValueError: the world is not built, or holds none of these pictures.
    """
    folder = world or cache_dir() / "world"
    if not (folder / "manifest.jsonl").exists():
        raise ValueError(f"{folder}: no micro world here; run `nextgpt world build` first")
    items = [
        item
        for item in read_manifest(folder / "manifest.jsonl")
        if item.modality == "image" and item.split in splits and item.attributes["view"] == "whole"
    ]
    if not items:
        raise ValueError(f"{folder}: no pictures of split {', '.join(splits)}; rebuild the world")
    return items


def load_pictures(items: list[Item], folder: Path, size: int) -> Tensor:
    """Read pictures, scaled by area to ``size``, keeping the result in the user's cache.

    Returns:
        (N, 3, size, size) uint8.
    """
    names = "\n".join(f"{item.id} {item.caption}" for item in items)
    key = hashlib.sha256(f"{size}\n{names}".encode()).hexdigest()[:16]
    path = cache_dir() / "tensors" / f"pictures-{key}.npy"
    if not path.exists():
        pictures = np.empty((len(items), 3, size, size), np.uint8)
        for index, item in enumerate(tqdm(items, desc="reading pictures", unit="picture")):
            with Image.open(folder / item.path) as picture:
                small = picture.convert("RGB").resize((size, size), Image.Resampling.BOX)
            pictures[index] = np.asarray(small).transpose(2, 0, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, pictures)
        partial.rename(path)
    return torch.from_numpy(np.load(path))


class PictureData(lightning.LightningDataModule):
    """Batches of pictures, (B, 3, size, size) uint8."""

    def __init__(self, world: Path | None = None, size: int = 64, batch_size: int = 32) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            size: Height and width in pixels.
            batch_size: Pictures a step.
        """
        super().__init__()
        self.world = world or cache_dir() / "world"
        self.size = size
        self.batch_size = batch_size

    def _loader(self, *splits: str, shuffle: bool) -> DataLoader:
        pictures = load_pictures(world_items(self.world, *splits), self.world, self.size)
        dataset = TensorDataset(pictures)
        return DataLoader(dataset, self.batch_size, shuffle=shuffle, drop_last=shuffle)

    def train_dataloader(self) -> DataLoader:
        """Shuffled pictures of the training split."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Compositions that are not in the training split."""
        return self._loader("validation", shuffle=False)
