"""Conditioning to pictures through a Stable Diffusion pipeline."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nextgpt.decoders.base import Decoder
from nextgpt.decoders.latents import pixel_values
from nextgpt.decoders.steps import OnStep
from nextgpt.media import Image, Medium
from nextgpt.modality import Modality


class ImageDecoder(Decoder):
    """Makes RGB pictures of the size the pipeline was trained for.

    The autoencoder may be an `AutoencoderKL` or an `AutoencoderTiny`.
    """

    modality: ClassVar[Modality] = Modality.IMAGE
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"

    def _media_size(self) -> tuple[float, ...]:
        return self._trained_side, self._trained_side

    def _values(self, medium: Medium) -> Tensor:
        assert isinstance(medium, Image)
        return pixel_values(medium.pil, self._trained_side, self._trained_side)

    def _generate(self, pipeline: Any, on_step: OnStep | None, **arguments: Any) -> list[Medium]:
        def on_step_end(running: Any, index: int, _timestep: Any, tensors: Any) -> Any:
            if on_step is not None:
                on_step(index + 1, running.num_timesteps, tensors["latents"])
            return tensors

        # No height and width: the pipeline then draws latents of the U-Net's own sample_size, and
        # the picture is what the autoencoder makes of them.
        pictures = pipeline(**arguments, callback_on_step_end=on_step_end).images
        return [Image(picture) for picture in pictures]
