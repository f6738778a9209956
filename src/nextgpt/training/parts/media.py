"""The micro world's media as tensors, for the recipes of the decoders' parts."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import lightning
import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.media.log_mel import DECODER_NUM_MELS, SAMPLE_RATE_HZ, log_mel
from nextgpt.modality import Modality
from nextgpt.sources import cache_dir

logger = logging.getLogger(__name__)


def world_items(
    world: Path | None, *splits: str, modality: Modality = Modality.IMAGE
) -> list[Item]:
    """Return the manifest's media of ``splits`` that a decoder learns from.

    Raises:
        ValueError: the world is not built, or holds none of these media.
    """
    folder = world or cache_dir() / "world"
    if not (folder / "manifest.jsonl").exists():
        raise ValueError(f"{folder}: no micro world here; run `nextgpt world build` first")
    items = [
        item
        for item in read_manifest(folder / "manifest.jsonl")
        if item.modality == modality
        and item.split in splits
        # Faces and variants are not what a caption with the bare noun means.
        and item.attributes.get("view", "whole") == "whole"
    ]
    if not items:
        raise ValueError(f"{folder}: no {modality} of split {', '.join(splits)}; rebuild the world")
    return items


def _load(
    items: list[Item], folder: Path, settings: str, read: Callable[[Medium], np.ndarray]
) -> Tensor:
    """Read media into one tensor, keeping the result in the user's cache."""
    names = "\n".join(f"{item.path} {item.caption}" for item in items)
    key = hashlib.sha256(f"{settings}\n{names}".encode()).hexdigest()[:16]
    path = cache_dir() / "tensors" / f"{items[0].modality}-{key}.npy"
    if not path.exists():
        manifest = folder / "manifest.jsonl"
        progress = tqdm(items, desc=f"reading {items[0].modality}", unit="file")
        rows = np.stack([read(medium_of(item, manifest)) for item in progress])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, rows)
        partial.rename(path)
    return torch.from_numpy(np.load(path))


def _shrunk(picture: PILImage.Image, size: int) -> np.ndarray:
    small = picture.resize((size, size), PILImage.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


def load_pictures(items: list[Item], folder: Path, size: int) -> Tensor:
    """Read pictures, scaled by area: (N, 3, size, size) uint8."""

    def read(medium: Medium) -> np.ndarray:
        assert isinstance(medium, Image)
        return _shrunk(medium.pil, size)

    return _load(items, folder, f"{size}", read)


def load_clips(items: list[Item], folder: Path, size: int, num_frames: int) -> Tensor:
    """Read evenly spaced frames, scaled by area: (N, num_frames, 3, size, size) uint8."""

    def read(medium: Medium) -> np.ndarray:
        assert isinstance(medium, Video)
        frames = medium.frames(num_frames)
        return np.stack([_shrunk(PILImage.fromarray(frame), size) for frame in frames])

    return _load(items, folder, f"{size} {num_frames}", read)


def load_waveforms(items: list[Item], folder: Path, duration_s: float) -> Tensor:
    """Read the beginnings of sounds, mono: (N, samples) float16 in -1..1."""

    def read(medium: Medium) -> np.ndarray:
        assert isinstance(medium, Audio)
        return medium.windows(1, duration_s, SAMPLE_RATE_HZ)[0].astype(np.float16)

    return _load(items, folder, f"{duration_s}", read)


def load_log_mels(items: list[Item], folder: Path, duration_s: float, num_mels: int) -> Tensor:
    """Compute log-mels of the beginnings of sounds: (N, 1, frames, mels) float16, about -1..1."""

    def read(medium: Medium) -> np.ndarray:
        assert isinstance(medium, Audio)
        waveform = torch.from_numpy(medium.windows(1, duration_s, SAMPLE_RATE_HZ))
        return log_mel(waveform, num_mels).transpose(1, 2).numpy().astype(np.float16)

    return _load(items, folder, f"log-mel {num_mels} {duration_s}", read)


class MediaData(lightning.LightningDataModule, ABC):
    """Batches of one kind of medium."""

    modality: ClassVar[Modality]

    def __init__(self, world: Path | None = None, batch_size: int = 32) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            batch_size: Media a step.
        """
        super().__init__()
        self.world = world or cache_dir() / "world"
        self.batch_size = batch_size

    @abstractmethod
    def load(self, items: list[Item]) -> Tensor:
        """Read media, one row an item."""

    def _loader(self, split: str, shuffle: bool) -> DataLoader:
        media = self.load(world_items(self.world, split, modality=self.modality))
        return DataLoader(TensorDataset(media), self.batch_size, shuffle=shuffle, drop_last=shuffle)

    def train_dataloader(self) -> DataLoader:
        """Shuffled media of the training split."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Media that are not in the training split."""
        return self._loader("validation", shuffle=False)


class PictureData(MediaData):
    """Batches of pictures, (B, 3, size, size) uint8."""

    modality = Modality.IMAGE

    def __init__(self, world: Path | None = None, size: int = 64, batch_size: int = 32) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            size: Height and width in pixels.
            batch_size: Pictures a step.
        """
        super().__init__(world, batch_size)
        self.size = size

    def load(self, items: list[Item]) -> Tensor:
        """Read pictures: (N, 3, size, size) uint8."""
        return load_pictures(items, self.world, self.size)


class LogMelData(MediaData):
    """Batches of the log-mels that sounds are made from, (B, 1, frames, mels) float16."""

    modality = Modality.AUDIO

    def __init__(
        self, world: Path | None = None, duration_s: float = 2.56, batch_size: int = 32
    ) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            duration_s: Seconds of a sound.
            batch_size: Sounds a step.
        """
        super().__init__(world, batch_size)
        self.duration_s = duration_s

    def load(self, items: list[Item]) -> Tensor:
        """Compute log-mels: (N, 1, frames, mels) float16."""
        return load_log_mels(items, self.world, self.duration_s, DECODER_NUM_MELS)


class WaveformData(LogMelData):
    """Batches of sounds, (B, samples) float16 in -1..1."""

    def load(self, items: list[Item]) -> Tensor:
        """Read sounds: (N, samples) float16."""
        return load_waveforms(items, self.world, self.duration_s)
