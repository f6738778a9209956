"""Conditioning to clips through a text-to-video (Zeroscope) pipeline."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from nextgpt.decoders.base import Decoder
from nextgpt.decoders.latents import latent_scale, pixel_values
from nextgpt.decoders.loading import Solver
from nextgpt.decoders.steps import OnStep, StepCounter
from nextgpt.media import Medium, Video
from nextgpt.modality import Modality


class VideoDecoder(Decoder):
    """Makes silent RGB clips of a fixed number of frames.

    NOTE: the pipeline folds frames into the batch before it calls the scheduler, so a scheduler
    that draws fresh noise each step fails on a batch with one generator per row; DDIM and the DPM
    solvers draw none.

    Args:
        source: As in `Decoder`.
        num_inference_steps: As in `Decoder`.
        guidance_scale: As in `Decoder`.
        dtype: As in `Decoder`.
        expected_shape: As in `Decoder`.
        solver: As in `Decoder`.
        num_frames: Frames of a clip.
        frames_per_second: Rate the clip is played at; must be that of the training clips.
        height: Pixels; None for the size in the U-Net's configuration.
        width: Pixels; None for the size in the U-Net's configuration.
    """

    modality: ClassVar[Modality] = Modality.VIDEO
    pipeline_class: ClassVar[str] = "TextToVideoSDPipeline"

    def __init__(
        self,
        source: str,
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        expected_shape: tuple[int, int] | None = None,
        solver: Solver = "pipeline",
        num_frames: int = 8,
        frames_per_second: float = 4.0,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(source, num_inference_steps, guidance_scale, dtype, expected_shape, solver)
        self.num_frames = num_frames
        self.frames_per_second = frames_per_second
        self.height = height
        self.width = width

    def latent_shape(self) -> tuple[int, ...]:
        """(C, T, height, width), fewer of the last two by the autoencoder's scale."""
        channels, *sides = super().latent_shape()
        pixels = (self.height, self.width)
        sides = [
            given // latent_scale(self._config("vae")) if given else side
            for given, side in zip(pixels, sides, strict=True)
        ]
        return channels, self.num_frames, *sides

    def _seen(self, autoencoder: Any, latents: Tensor) -> PIL.Image.Image:
        return super()._seen(autoencoder, latents[:, :, latents.shape[2] // 2])

    def _media_size(self) -> tuple[float, ...]:
        height, width = self.height or self._trained_side, self.width or self._trained_side
        return self.num_frames, self.frames_per_second, height, width

    def _values(self, medium: Medium) -> Tensor:
        assert isinstance(medium, Video)
        _, _, height, width = map(int, self._media_size())
        frames = medium.windows(1, self.num_frames, self.num_frames / self.frames_per_second)[0]
        pictures = [PIL.Image.fromarray(frame) for frame in frames]
        return torch.stack([pixel_values(picture, height, width) for picture in pictures])

    def _generate(self, pipeline: Any, on_step: OnStep | None, **arguments: Any) -> list[Medium]:
        clips = pipeline(
            **arguments,
            num_frames=self.num_frames,
            height=self.height,
            width=self.width,
            callback=on_step and StepCounter(on_step, arguments["num_inference_steps"]),
        ).frames  # (B, T, H, W, 3) float in 0..1
        return [
            Video(clip, frames_per_second=self.frames_per_second)
            for clip in (clips * 255).round().astype(np.uint8)
        ]
