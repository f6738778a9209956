"""What the decoders share: conditioning, latents, guidance, generators, progress."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import PIL.Image
import torch
from torch import Tensor

from nextgpt.decoders.latents import encoded, latent_scale
from nextgpt.decoders.loading import PipelineParts, Solver, read_json
from nextgpt.decoders.steps import OnStep, denoised
from nextgpt.losses import denoising_loss
from nextgpt.media import Medium


class Decoder(PipelineParts):
    """One frozen diffusers pipeline, loaded on first use, that turns conditioning into media.

    ``conditioning_shape`` and ``fingerprint`` read files only; ``encode_text`` loads the text
    encoder alone; ``decode`` loads the rest. Calls to one decoder wait for each other.

    Args:
        source: Where the diffusers directory comes from, see `nextgpt.sources.resolve`.
        num_inference_steps: Denoising steps of a ``decode`` that names none.
        guidance_scale: Classifier-free guidance of a ``decode`` that names none; 1 or less turns
            guidance off and halves the work.
        dtype: Floating point type the weights are held in.
        expected_shape: What ``conditioning_shape`` must be, where the configuration says it; a
            pipeline of another shape is refused before its weights are loaded.
        solver: What removes the noise: the pipeline's own scheduler, or DPM-Solver++ of second
            order (arXiv:2211.01095), which comes as near to the end in half the steps. A
            pipeline that was distilled for its scheduler needs that.
    """

    def __init__(
        self,
        source: str,
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        expected_shape: tuple[int, int] | None = None,
        solver: Solver = "pipeline",
    ) -> None:
        super().__init__(source, dtype, solver)
        self.expected_shape = expected_shape
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale

    def _unload(self) -> None:
        super()._unload()
        self._unconditional: Tensor | None = None
        self._is_decoding = False

    @cached_property
    def conditioning_shape(self) -> tuple[int, int]:
        """Conditioning length L and width D_cond, read from the configuration files alone.

        Raises:
            ValueError: the text encoder's width is not the U-Net's, or the shape is not
                ``expected_shape``; gives both numbers.
        """
        length, width = self._text_shape()
        takes = self._conditioning_width(self._config("unet"))
        if takes != width:
            raise ValueError(
                f"{self.configuration}: the text encoder gives conditioning {width} wide, the "
                f"U-Net takes {takes}: they belong to different pipelines"
            )
        if self.expected_shape not in (None, (length, width)):
            raise ValueError(
                f"the {self.modality} decoder of {self.source} takes conditioning of shape "
                f"{(length, width)}, but expected_shape is {self.expected_shape}: correct one"
            )
        return length, width

    def latent_shape(self) -> tuple[int, ...]:
        """Shape (C, ...) of what the U-Net makes from noise, read from the configuration files."""
        unet = self._config("unet")
        return unet["in_channels"], unet["sample_size"], unet["sample_size"]

    def _text_shape(self) -> tuple[int, int]:
        """Length and width of what the text encoder gives."""
        return self._max_text_length, self._text_encoder_config["hidden_size"]

    def _conditioning_width(self, unet: dict[str, Any]) -> int:
        """Width that a U-Net of this configuration takes."""
        return unet["cross_attention_dim"]

    @property
    def _text_encoder_config(self) -> dict[str, Any]:
        return self._config("text_encoder")

    @cached_property
    def _max_text_length(self) -> int:
        """Tokens that a caption is padded or cut to."""
        path = self.configuration / "tokenizer" / "tokenizer_config.json"
        length = read_json(path).get("model_max_length")
        positions = self._text_encoder_config["max_position_embeddings"]
        if not isinstance(length, int) or length > positions:
            raise ValueError(
                f"{path}: model_max_length is {length}, but the text encoder has {positions} "
                "positions: set it to the caption length the decoder was trained with"
            )
        return length

    def sampling(self) -> tuple[str | float, ...]:
        """Return all but weights, conditioning and noise that decides what ``decode`` makes."""
        return self.solver, self.num_inference_steps, self.guidance_scale

    def latents_fingerprint(self) -> str:
        """Return 16 hexadecimal digits of all that decides ``latents``: the key of their cache."""
        decides = f"{self.fingerprint()} {self._media_size()}"
        return hashlib.sha256(decides.encode()).hexdigest()[:16]

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Return the conditioning the decoder was trained with: the target of the projections.

        Captions longer than the text encoder's context are cut. The result does not depend on an
        autocast around the call, so that cached targets fit every training precision.

        Returns:
            (B, L, D_cond) float32 on the decoder's device, without gradient.
        """
        with self._exclusive():
            tokens = self._component("tokenizer")(
                list(captions),
                padding="max_length",
                max_length=self._max_text_length,
                truncation=True,
                return_tensors="pt",
            ).to(self.device)
            return self._embed(self._component("text_encoder"), tokens).float()

    def latents(self, media: Sequence[Medium]) -> Tensor:
        """Encode media to what the U-Net makes from noise.

        Media are brought to the size that ``decode`` makes: pictures and frames are scaled and
        cropped to their middle, of sounds and clips the beginning is taken. The autoencoder's mean
        stands for its distribution, so that equal media always give equal latents.

        Returns:
            (B, C, ...) float32 on the decoder's device, in the U-Net's scale, without gradient.

        Raises:
            ValueError: a medium cannot be read.
        """
        with self._exclusive():
            autoencoder = self._component("vae")
            values = torch.stack([self._values(medium) for medium in media])
            latents = encoded(autoencoder, values.to(self.device, self.dtype))
            return latents.float() * autoencoder.config.scaling_factor

    def denoising_loss(
        self,
        conditioning: Tensor,
        latents: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """How badly the frozen U-Net denoises latents when told ``conditioning``.

        Gradients flow through the U-Net to ``conditioning``; its own weights get none. Loads the
        U-Net alone.

        Args:
            conditioning: (B, L, D_cond) float, from the output projection.
            latents: (B, C, ...) float32, see ``latents``.
            generator: Of noise and timesteps, see `nextgpt.losses.denoising_loss`.

        Returns:
            (B,) float32, weighted by min-SNR.

        Raises:
            ValueError: the pipeline's scheduler is for neither epsilon nor v-prediction.
        """
        with self._lock, torch.autocast(self.device.type, enabled=False):
            unet, scheduler = self._component("unet"), self._component("scheduler")
            conditioning = conditioning.to(self.device)
            return denoising_loss(
                lambda noisy, timesteps: self.denoise(
                    unet, noisy.to(self.dtype), timesteps, conditioning
                ),
                latents.to(self.device),
                scheduler.alphas_cumprod,
                scheduler.config.prediction_type,
                generator,
            )

    def denoise(self, unet: Any, noisy: Tensor, timesteps: Tensor, conditioning: Tensor) -> Tensor:
        """Let a U-Net of this pipeline predict what its scheduler wants.

        Args:
            unet: The pipeline's, with or without weights.
            noisy: (B, C, ...) latents in the U-Net's precision.
            timesteps: (B,).
            conditioning: (B, L, D_cond) float.

        Returns:
            (B, C, ...).
        """
        prompt_embeds = self._prompt_embeds(conditioning).to(noisy.dtype)
        return self._predict(unet, noisy, timesteps, prompt_embeds)

    def decode(
        self,
        conditioning: Tensor,
        generators: list[torch.Generator] | torch.Generator,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        on_step: OnStep | None = None,
    ) -> list[Medium]:
        """Turn each row of conditioning into one medium.

        With one generator per row a row's medium does not depend on the other rows, but for the
        rounding of batched arithmetic.

        Args:
            conditioning: (B, L, D_cond) float, on any device.
            generators: B of them, or one that all rows draw from in turn.
            num_inference_steps: Denoising steps; the decoder's own when None.
            guidance_scale: Classifier-free guidance; the decoder's own when None.
            on_step: Progress of the whole batch; called while the decoder is locked.

        Returns:
            B media, without caption or seed.

        Raises:
            ValueError: the shape of ``conditioning``, the number of generators or the number of
                steps does not fit; the message gives both numbers.
            RuntimeError: called from the ``on_step`` of another decoding.
        """
        steps = self.num_inference_steps if num_inference_steps is None else num_inference_steps
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        if conditioning.ndim != 3 or tuple(conditioning.shape[1:]) != self.conditioning_shape:
            length, width = self.conditioning_shape
            raise ValueError(
                f"the {self.modality} decoder takes conditioning of shape (B, {length}, {width}), "
                f"got {tuple(conditioning.shape)}: fit the output projection to this decoder"
            )
        if isinstance(generators, list) and len(generators) != len(conditioning):
            raise ValueError(
                f"{len(generators)} generators for {len(conditioning)} rows of conditioning: "
                "give one generator per row, or a single generator instead of a list"
            )
        if steps < 1:
            raise ValueError(f"num_inference_steps is {steps}: give 1 or more")
        with self._exclusive(), self._alone():
            pipeline = self._loaded_pipeline()
            if self._unconditional is None:
                self._unconditional = self.encode_text([""])
            return self._generate(
                pipeline,
                on_step and denoised(on_step, pipeline.scheduler),
                prompt_embeds=self._prompt_embeds(conditioning),
                negative_prompt_embeds=self._prompt_embeds(
                    self._unconditional.expand_as(conditioning)
                ),
                generator=generators,
                num_inference_steps=steps,
                guidance_scale=scale,
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse a second decoding inside of a first one, which only pauses in ``on_step``."""
        if self._is_decoding:
            raise RuntimeError(
                f"the {self.modality} decoder is in the middle of another medium: end or close "
                "the reply that it belongs to first"
            )
        self._is_decoding = True
        try:
            yield
        finally:
            self._is_decoding = False

    def preview(self, latents: Tensor) -> PIL.Image.Image:
        """Show what the latents of an ``OnStep`` hold, as a picture."""
        with self._exclusive():
            autoencoder = self._loaded_pipeline().vae
            return self._seen(autoencoder, latents[:1] / autoencoder.config.scaling_factor)

    def _seen(self, autoencoder: Any, latents: Tensor) -> PIL.Image.Image:
        """Decode the latents of one medium, as the autoencoder wants them, to a picture."""
        decoded = autoencoder.decode(latents).sample[0].float().permute(1, 2, 0)
        pixels = ((decoded + 1) * 127.5).clamp(0, 255).round().byte().cpu().numpy()
        return PIL.Image.fromarray(pixels)

    def _embed(self, text_encoder: Any, tokens: Any) -> Tensor:
        """Run the text encoder on tokenized captions; returns (B, L, D_cond)."""
        # CLIP text encoders attend to padding, unless their configuration says otherwise.
        uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask if uses_mask else None
        return text_encoder(tokens.input_ids, attention_mask=mask)[0]

    def _prompt_embeds(self, conditioning: Tensor) -> Tensor:
        """Bring conditioning (B, L, D_cond) into the form of the pipeline's ``prompt_embeds``."""
        return conditioning

    def _predict(
        self, unet: Any, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor
    ) -> Tensor:
        """Run the U-Net on noisy latents as the pipeline does."""
        return unet(noisy, timesteps, encoder_hidden_states=prompt_embeds).sample

    def _media_size(self) -> tuple[float, ...]:
        """Return the sizes that ``_values`` brings media to."""
        raise NotImplementedError

    def _values(self, medium: Medium) -> Tensor:
        """Prepare one medium for the autoencoder: (..., channels, height, width) float32."""
        raise NotImplementedError

    @cached_property
    def _trained_side(self) -> int:
        """Pixels along a side of what the U-Net was trained on."""
        return int(self._config("unet")["sample_size"]) * latent_scale(self._config("vae"))

    def _generate(self, pipeline: Any, on_step: OnStep | None, **arguments: Any) -> list[Medium]:
        """Call the pipeline with ``arguments`` and wrap what it returns."""
        raise NotImplementedError
