"""The sides of micro-bind: each turns one kind of medium into unit vectors of the joint space."""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional

from nextgpt.encoders.heads import BindingHead, DrawingGate
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.media.log_mel import NUM_MELS, SAMPLE_RATE_HZ, log_mel
from nextgpt.modality import Modality


class Trunk(nn.Module):
    """EfficientNet-lite trained on ImageNet: summaries and class probabilities of pictures.

    Args:
        name: Architecture, as the package ``efficientnet_lite_pytorch`` names it.
        parameters: Changes of its sizes, such as ``image_size`` in pixels; tests make it tiny.
    """

    CHUNK = 8
    """Pictures computed together: maps of more fall out of the processor's cache (measured on 2
    cores: 64 pictures/s in eights, 30 in thirty-twos)."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name(name, **parameters)
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.image_size: int = self.network._global_params.image_size

    @property
    def dim(self) -> int:
        """Channels of the map."""
        return int(self.network._fc.in_features)

    @property
    def num_classes(self) -> int:
        """Classes of ImageNet it tells apart."""
        return int(self.network._fc.out_features)

    @property
    def map_size(self) -> int:
        """Height and width of the map."""
        return math.ceil(self.image_size / 32)

    def load(self, directory: Path) -> None:
        """Read weights from the one ``.pth`` file in ``directory``.

        Raises:
            ValueError: no such file, or several, or weights of another network.
        """
        files = sorted(directory.rglob("*.pth"))
        if len(files) != 1:
            raise ValueError(f"{directory}: expected one .pth file of a trunk, found {len(files)}")
        try:
            self.network.load_state_dict(torch.load(files[0], "cpu", weights_only=True))
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"{files[0]}: weights of another trunk ({first})") from error

    @property
    def thumbnail_size(self) -> int:
        """Height and width of the thumbnail in a summary."""
        return 2 * self.map_size

    @property
    def summary_dim(self) -> int:
        """Width of a summary."""
        return 2 * self.dim + 3 * self.thumbnail_size**2

    @torch.no_grad()
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Summarise pictures: (B, 3, S, S) pixels in -1..1 to (B, summary_dim).

        First the mean of the map, then its maximum, then the pixels of a thumbnail: the map forgets
        a background's colour and an object's place, a tiny picture tells them.
        """
        rows = []
        for chunk in pixel_values.split(self.CHUNK):
            maps = self.network.extract_features(chunk.to(memory_format=torch.channels_last))
            thumbnail = functional.adaptive_avg_pool2d(chunk, self.thumbnail_size)
            rows.append(
                torch.cat([maps.mean((2, 3)), maps.amax((2, 3)), thumbnail.flatten(1)], dim=-1)
            )
        return torch.cat(rows)

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Turn (B, dim) mean features into (B, num_classes) probabilities of ImageNet."""
        return self.network._fc(features).softmax(dim=-1)


def pixels(picture: PILImage.Image, size: int) -> Tensor:
    """Squeeze an RGB picture into a square: (3, size, size) float32 in -1..1."""
    square = picture.resize((size, size), PILImage.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float().sub(127).div(128)


class Side(nn.Module, ABC):
    """One medium's way into the joint space: a tower that summarises an item, and a head."""

    modality: ClassVar[Modality]
    head: BindingHead

    @abstractmethod
    def preprocess(self, medium: Medium) -> Tensor:
        """Turn one medium into the float32 tensor ``forward`` takes, no batch dimension."""

    @abstractmethod
    def summary(self, batch: Tensor) -> Tensor:
        """Map what the tower looks at, an item or one window of it, to (B, head's input_dim)."""

    def vectors(self, summary: Tensor) -> Tensor:
        """Map (B, input_dim) summaries to (B, embed_dim) vectors of length 1."""
        return self.head(summary)

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch of preprocessed media to (B, embed_dim) vectors of length 1."""
        return self.vectors(self.summary(batch))


class ImageSide(Side):
    """Pictures: a trained head for drawings, ImageNet's class names for photographs.

    A photograph's vector is the mean of the sentence vectors of its likeliest class names, weighted
    by their probability (ConSE). The gate mixes the two by how much the picture's mean features
    resemble those of the drawings the head was trained on, so the head speaks only of what it
    knows.

    Source: ConSE, arXiv:1312.5650.

    Args:
        trunk: The frozen ImageNet network.
        head: Sizes of the head.
        embed_dim: Width of the joint space.
        num_classes_averaged: Class names a photograph's vector is made of.
        gate_rank: Principal directions the gate measures in.
    """

    modality = Modality.IMAGE
    class_vectors: Tensor

    def __init__(
        self,
        trunk: Trunk,
        head: dict[str, Any],
        embed_dim: int,
        num_classes_averaged: int = 10,
        gate_rank: int = 128,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_classes_averaged = num_classes_averaged
        self.head = BindingHead(trunk.summary_dim, embed_dim, **head)
        self.register_buffer("class_vectors", torch.zeros(trunk.num_classes, embed_dim))
        self.gate = DrawingGate(trunk.dim, gate_rank)

    def preprocess(self, medium: Medium) -> Tensor:
        """Squeeze a picture to (3, S, S) pixels in -1..1: nothing at the edges is cut off."""
        assert isinstance(medium, Image)
        return pixels(medium.pil, self.trunk.image_size)

    def summary(self, batch: Tensor) -> Tensor:
        """Map (B, 3, S, S) pixels in -1..1 to the trunk's (B, summary_dim)."""
        return self.trunk(batch)

    def photograph_vectors(self, features: Tensor) -> Tensor:
        """Turn (B, dim) mean features into (B, embed_dim) mixtures of class names, of length 1."""
        weights, classes = self.trunk.class_probabilities(features).topk(self.num_classes_averaged)
        return functional.normalize(
            (weights[..., None] * self.class_vectors[classes]).sum(1), dim=-1
        )

    def vectors(self, summary: Tensor) -> Tensor:
        """Map (B, input_dim) summaries to (B, embed_dim) vectors of length 1."""
        features = summary[:, : self.trunk.dim]
        weight = self.gate(features)[:, None]
        mixture = weight * self.head(summary) + (1 - weight) * self.photograph_vectors(features)
        return functional.normalize(mixture, dim=-1)


class WindowedSide(Side):
    """A side for media of any length: the head speaks of each window, and its vectors are averaged.

    ``preprocess`` gives (num_windows, ...), while ``summary`` takes windows as if they were items:
    the head is trained on media of one window.

    Source: ImageBind, arXiv:2305.05665, which averages clips in the same way.

    Args:
        num_windows: Windows, from the first to the last moment of an item.
        window_s: Length of a window in seconds; a shorter item is one window, repeated.
    """

    def __init__(self, num_windows: int, window_s: float) -> None:
        super().__init__()
        self.num_windows, self.window_s = num_windows, window_s

    def forward(self, batch: Tensor) -> Tensor:
        """Map (B, num_windows, ...) windows to (B, embed_dim) vectors of length 1."""
        # Windows of a short item repeat its first and are not computed again: a third of the cost.
        is_new = (batch != batch[:, :1]).flatten(2).any(dim=-1)
        is_new[:, 0] = True
        place = is_new.flatten().cumsum(0).view_as(is_new) - 1
        place = torch.where(is_new, place, place[:, :1])
        vectors = self.vectors(self.summary(batch[is_new]))
        return functional.normalize(vectors[place].mean(dim=1), dim=-1)


class VideoSide(WindowedSide):
    """Videos: the picture vectors of frames sampled from each window, and how they change.

    Args:
        image: The picture side of the same part.
        head: Sizes of the head.
        embed_dim: Width of the joint space.
        num_frames: Frames sampled from a window.
        num_windows: Windows, from the first to the last moment of a video.
        window_s: Length of a window in seconds.
    """

    modality = Modality.VIDEO

    def __init__(
        self,
        image: ImageSide,
        head: dict[str, Any],
        embed_dim: int,
        num_frames: int = 8,
        num_windows: int = 3,
        window_s: float = 2.0,
    ) -> None:
        super().__init__(num_windows, window_s)
        self.num_frames = num_frames
        self.head = BindingHead((2 * num_frames - 1) * embed_dim, embed_dim, **head)
        # NOTE: a tuple, so that the picture side's weights are not registered, and saved, a second
        # time.
        self._image = (image,)

    def preprocess(self, medium: Medium) -> Tensor:
        """Sample (num_windows, num_frames, 3, S, S) pixels in -1..1."""
        assert isinstance(medium, Video)
        size = self._image[0].trunk.image_size
        windows = medium.windows(self.num_windows, self.num_frames, self.window_s)
        frames = [pixels(PILImage.fromarray(frame), size) for window in windows for frame in window]
        return torch.stack(frames).unflatten(0, windows.shape[:2])

    def summary(self, batch: Tensor) -> Tensor:
        """Map windows (B, num_frames, 3, S, S) to the frames' vectors and their differences."""
        frames = self._image[0](batch.flatten(0, 1)).unflatten(0, batch.shape[:2])
        return torch.cat([frames, torch.diff(frames, dim=1)], dim=1).flatten(1)


class AudioSide(WindowedSide):
    """Sounds: log-mel windows through a small convolutional tower.

    Args:
        head: Sizes of the head.
        embed_dim: Width of the joint space.
        num_windows: Windows, from the first to the last moment of a sound.
        window_s: Length of a window in seconds.
        num_mels: Mel bands.
        channels: Channels after each convolution; each halves bands and frames.
    """

    modality = Modality.AUDIO
    TIME_PARTS = 4
    """Parts of a window that are summed up on their own: notes that rise differ in their order."""

    def __init__(
        self,
        head: dict[str, Any],
        embed_dim: int,
        num_windows: int = 3,
        window_s: float = 2.56,
        num_mels: int = NUM_MELS,
        channels: tuple[int, ...] = (32, 64, 128, 128),
    ) -> None:
        super().__init__(num_windows, window_s)
        self.num_mels = num_mels
        blocks: list[nn.Module] = []
        for previous, current in zip((1, *channels), channels, strict=False):
            blocks += [
                nn.Conv2d(previous, current, 3, stride=2, padding=1),
                nn.GroupNorm(1, current),
                nn.GELU(),
            ]
        self.tower = nn.Sequential(*blocks)
        bands = math.ceil(num_mels / 2 ** len(channels))
        input_dim = (self.TIME_PARTS + 1) * channels[-1] * bands
        self.head = BindingHead(input_dim, embed_dim, **head)

    def preprocess(self, medium: Medium) -> Tensor:
        """Compute (num_windows, num_mels, num_frames) log-mel values, about -1..1."""
        assert isinstance(medium, Audio)
        windows = medium.windows(self.num_windows, self.window_s, SAMPLE_RATE_HZ)
        return log_mel(torch.from_numpy(windows), self.num_mels)

    def summary(self, batch: Tensor) -> Tensor:
        """Map windows (B, num_mels, num_frames) to means over parts of them and the maximum."""
        steps = self.tower(batch.unsqueeze(1)).flatten(1, 2)  # (B, C * bands, frames)
        means = functional.adaptive_avg_pool1d(steps, self.TIME_PARTS).flatten(1)
        return torch.cat([means, steps.amax(dim=-1)], dim=-1)
