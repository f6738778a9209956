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
        """Turn one medium into the float32 tensor ``summary`` takes, no batch dimension."""

    @abstractmethod
    def summary(self, batch: Tensor) -> Tensor:
        """Map a batch of preprocessed media to (B, input_dim of the head)."""

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


class VideoSide(Side):
    """Videos: the picture vectors of uniformly sampled frames, and how they change.

    Args:
        image: The picture side of the same part.
        head: Sizes of the head.
        embed_dim: Width of the joint space.
        num_frames: Frames sampled from a video.
    """

    modality = Modality.VIDEO

    def __init__(
        self, image: ImageSide, head: dict[str, Any], embed_dim: int, num_frames: int = 8
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.head = BindingHead((2 * num_frames - 1) * embed_dim, embed_dim, **head)
        # NOTE: a tuple, so that the picture side's weights are not registered, and saved, a second
        # time.
        self._image = (image,)

    def preprocess(self, medium: Medium) -> Tensor:
        """Sample (num_frames, 3, S, S) pixels in -1..1."""
        assert isinstance(medium, Video)
        size = self._image[0].trunk.image_size
        frames = medium.frames(self.num_frames)
        return torch.stack([pixels(PILImage.fromarray(frame), size) for frame in frames])

    def summary(self, batch: Tensor) -> Tensor:
        """Map (B, num_frames, 3, S, S) pixels to the frames' vectors and their differences."""
        frames = self._image[0](batch.flatten(0, 1)).unflatten(0, batch.shape[:2])
        return torch.cat([frames, torch.diff(frames, dim=1)], dim=1).flatten(1)


class AudioSide(Side):
    """Sounds: log-mel excerpts through a small convolutional tower.

    Args:
        head: Sizes of the head.
        embed_dim: Width of the joint space.
        num_windows: Excerpts, from the first to the last moment of a sound.
        window_s: Length of an excerpt in seconds.
        num_mels: Mel bands.
        channels: Channels after each convolution; each halves bands and frames.
    """

    modality = Modality.AUDIO
    SAMPLE_RATE_HZ = 16_000
    NUM_FFT = 1024
    HOP_SAMPLES = 320

    def __init__(
        self,
        head: dict[str, Any],
        embed_dim: int,
        num_windows: int = 3,
        window_s: float = 2.56,
        num_mels: int = 64,
        channels: tuple[int, ...] = (32, 64, 128, 128),
    ) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.num_windows, self.window_s = num_windows, window_s
        self.num_frames = round(window_s * self.SAMPLE_RATE_HZ) // self.HOP_SAMPLES
        filters = mel_filter_bank(
            self.NUM_FFT // 2 + 1, num_mels, 0.0, self.SAMPLE_RATE_HZ / 2, self.SAMPLE_RATE_HZ
        )
        self.filters = torch.from_numpy(filters.T).float()
        blocks: list[nn.Module] = []
        for previous, current in zip((1, *channels), channels, strict=False):
            blocks += [
                nn.Conv2d(previous, current, 3, stride=2, padding=1),
                nn.GroupNorm(1, current),
                nn.GELU(),
            ]
        self.tower = nn.Sequential(*blocks)
        bands = math.ceil(num_mels / 2 ** len(channels))
        self.head = BindingHead(2 * channels[-1] * bands, embed_dim, **head)

    def preprocess(self, medium: Medium) -> Tensor:
        """Compute (num_windows, num_mels, num_frames) log-mel values, about -2..2."""
        assert isinstance(medium, Audio)
        windows = medium.windows(self.num_windows, self.window_s, self.SAMPLE_RATE_HZ)
        spectrum = torch.stft(
            torch.from_numpy(windows),
            self.NUM_FFT,
            self.HOP_SAMPLES,
            window=torch.hann_window(self.NUM_FFT),
            return_complex=True,
        )[..., : self.num_frames]
        mel = self.filters @ spectrum.abs().square()
        # ln(1e-5) = -11.5 is silence; a loud band reaches about 6: centred and scaled to about one.
        return (mel.clamp(min=1e-5).log() + 3) / 4

    def summary(self, batch: Tensor) -> Tensor:
        """Map (B, num_windows, num_mels, num_frames) log-mels to mean and maximum over time."""
        maps = self.tower(batch.flatten(0, 1).unsqueeze(1))  # (B * num_windows, C, bands, frames)
        steps = maps.flatten(1, 2).unflatten(0, batch.shape[:2])
        return torch.cat([steps.mean(dim=(1, 3)), steps.amax(dim=(1, 3))], dim=-1)
