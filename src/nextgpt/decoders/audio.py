"""Conditioning to sound through an AudioLDM pipeline."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import PIL.Image
import torch
from torch import Tensor

from nextgpt.decoders.base import Decoder
from nextgpt.decoders.latents import latent_scale
from nextgpt.decoders.loading import Solver
from nextgpt.decoders.steps import OnStep, StepCounter
from nextgpt.decoders.vocoder import GriffinLim
from nextgpt.media import Audio, Medium
from nextgpt.media.log_mel import LOG_MELS
from nextgpt.modality import Modality


class AudioDecoder(Decoder):
    """Makes mono sound of a fixed length, at the vocoder's sample rate.

    The conditioning is one CLAP text embedding on the unit sphere, L = 1. The U-Net has seen no
    other length, so ``decode`` brings its input to unit length too.

    Args:
        source: As in `Decoder`.
        num_inference_steps: As in `Decoder`.
        guidance_scale: As in `Decoder`.
        dtype: As in `Decoder`.
        expected_shape: As in `Decoder`.
        solver: As in `Decoder`.
        duration_s: Seconds of sound.
        vocoder: What turns log-mels into sound: the pipeline's own vocoder, or `GriffinLim`, which
            needs no training and keeps the pitch of every note.
    """

    modality: ClassVar[Modality] = Modality.AUDIO
    pipeline_class: ClassVar[str] = "AudioLDMPipeline"

    def __init__(
        self,
        source: str,
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        expected_shape: tuple[int, int] | None = None,
        solver: Solver = "pipeline",
        duration_s: float = 2.56,
        vocoder: Literal["pipeline", "griffin_lim"] = "pipeline",
    ) -> None:
        super().__init__(source, num_inference_steps, guidance_scale, dtype, expected_shape, solver)
        self.duration_s = duration_s
        self.vocoder = vocoder

    def sampling(self) -> tuple[str | float, ...]:
        """As in `Decoder`, and the vocoder."""
        return *super().sampling(), self.vocoder

    def latent_shape(self) -> tuple[int, ...]:
        """(C, frames, mels), fewer of both by the autoencoder's scale."""
        vocoder, scale = self._config("vocoder"), latent_scale(self._config("vae"))
        frames = self.duration_s * vocoder["sampling_rate"] / math.prod(vocoder["upsample_rates"])
        channels, *_ = super().latent_shape()
        return channels, math.ceil(frames / scale), vocoder["model_in_dim"] // scale

    def _text_shape(self) -> tuple[int, int]:
        return 1, self._text_encoder_config["projection_dim"]

    def _conditioning_width(self, unet: dict[str, Any]) -> int:
        return unet["projection_class_embeddings_input_dim"]

    def _embed(self, text_encoder: Any, tokens: Any) -> Tensor:
        embeds = text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds
        return torch.nn.functional.normalize(embeds, dim=-1)[:, None]

    def _prompt_embeds(self, conditioning: Tensor) -> Tensor:
        return torch.nn.functional.normalize(conditioning[:, 0].float(), dim=-1)

    def _predict(
        self, unet: Any, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor
    ) -> Tensor:
        return unet(noisy, timesteps, encoder_hidden_states=None, class_labels=prompt_embeds).sample

    def _media_size(self) -> tuple[float, ...]:
        return (self.duration_s,)

    def _values(self, medium: Medium) -> Tensor:
        assert isinstance(medium, Audio)
        vocoder = self._config("vocoder")
        scale = latent_scale(self._config("vae"))
        rate_hz, hop = vocoder["sampling_rate"], math.prod(vocoder["upsample_rates"])
        if (rate_hz, hop) not in LOG_MELS:
            known = ", ".join(f"{hop} at {rate_hz} Hz" for rate_hz, hop in LOG_MELS)
            raise ValueError(
                f"{self.directory}: the vocoder makes {hop} samples a mel frame at {rate_hz} Hz; "
                f"how sounds become mels is known for {known}: train without the denoising loss"
            )
        # As the pipeline counts: whole frames, and whole positions of the latents.
        num_frames = math.ceil(self.duration_s * rate_hz / hop / scale) * scale
        waveform = torch.from_numpy(medium.windows(1, num_frames * hop / rate_hz, rate_hz))
        return LOG_MELS[rate_hz, hop](waveform, vocoder["model_in_dim"]).transpose(1, 2)

    def _adapt(self, pipeline: Any) -> None:
        super()._adapt(pipeline)
        if self.vocoder == "griffin_lim":
            pipeline.vocoder = GriffinLim(pipeline.vocoder.config)

    def _seen(self, autoencoder: Any, latents: Tensor) -> PIL.Image.Image:
        levels = autoencoder.decode(latents).sample[0, 0].float().T.flip(0)
        spread = (levels - levels.min()) / (levels.max() - levels.min()).clamp_min(1e-6)
        return PIL.Image.fromarray((spread * 255).round().byte().cpu().numpy())

    def _generate(self, pipeline: Any, on_step: OnStep | None, **arguments: Any) -> list[Medium]:
        vocoder = pipeline.vocoder.config
        num_samples = round(self.duration_s * vocoder.sampling_rate)
        # NOTE: the pipeline truncates seconds to whole mel frames in floating point and may lose
        # one (0.3 s at hop 320 becomes 14 frames, not 15). Ask for whole frames and half a sample.
        hop = math.prod(vocoder.upsample_rates)
        num_frames = math.ceil(num_samples / hop)
        waveforms = pipeline(
            **arguments,
            audio_length_in_s=(num_frames * hop + 0.5) / vocoder.sampling_rate,
            callback=on_step and StepCounter(on_step, arguments["num_inference_steps"]),
        ).audios  # (B, samples) float in -1..1
        return [
            Audio(waveform[:num_samples], sample_rate_hz=vocoder.sampling_rate)
            for waveform in waveforms
        ]
