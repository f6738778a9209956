"""Trains the audio decoder's U-Net on latents of log-mels and writes the AudioLDM pipeline."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt.data.manifest import Item
from nextgpt.media.log_mel import DECODER_NUM_MELS
from nextgpt.modality import Modality
from nextgpt.training.parts.audio_text_encoder import sound_conditioning
from nextgpt.training.parts.autoencoder import to_pixel_values
from nextgpt.training.parts.diffusion import DiffusionRecipe, LatentData
from nextgpt.training.parts.media import load_log_mels


class SoundLatents(LatentData):
    """Latents (4, frames, mels) of the log-mels of the world's sounds."""

    modality = Modality.AUDIO

    def __init__(
        self,
        pipeline: Path = Path("checkpoints/micro/audio"),
        world: Path | None = None,
        duration_s: float = 2.56,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> None:
        """Read from a world folder.

        Args:
            pipeline: Directory with trained ``vae``, ``vocoder``, ``text_encoder``, ``tokenizer``.
            world: The folder of the manifest; the user's cache by default.
            duration_s: Seconds of a sound.
            batch_size: Latents a step.
            kwargs: As in `LatentData`.
        """
        super().__init__(pipeline, world, batch_size, **kwargs)
        self.duration_s = duration_s

    def load_media(self, items: list[Item]) -> Tensor:
        """Compute log-mels: (N, 1, frames, mels) float16."""
        return load_log_mels(items, self.world, self.duration_s, DECODER_NUM_MELS)

    def to_latents(self, media: Tensor) -> Tensor:
        """Encode (B, 1, frames, mels) log-mels to (B, 4, frames / 4, mels / 4)."""
        return self.vae.encoder(to_pixel_values(media))

    def load_text_encoder(self) -> Any:
        """Return the CLAP text encoder."""
        from transformers import ClapTextModelWithProjection

        folder = self.pipeline / "text_encoder"
        return ClapTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> Tensor:
        """Return one vector a caption, (B, 1, C) of length 1."""
        vectors = sound_conditioning(self.text_encoder, self.tokens(captions)["input_ids"])
        return vectors[:, None].clone()


class AudioDiffusionRecipe(DiffusionRecipe):
    """The U-Net of an AudioLDM pipeline: the caption's vector stands beside the time step's."""

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/audio"),
        block_out_channels: tuple[int, ...] = (64, 128, 160),
        **kwargs: Any,
    ) -> None:
        """Describe the U-Net; it is built when the sizes of latents and conditioning are known.

        Args:
            output: Directory of the pipeline; its parts but U-Net and scheduler are there.
            block_out_channels: Channels at each resolution.
            kwargs: As in `DiffusionRecipe`.
        """
        super().__init__(output, **kwargs)
        self.block_out_channels = tuple(block_out_channels)

    def build_unet(self, latent: Tensor, conditioning: Tensor) -> nn.Module:
        """Build a U-Net, or load the one to go on from."""
        from diffusers import UNet2DConditionModel

        if self.start_from is not None:
            unet = UNet2DConditionModel.from_pretrained(self.start_from, torch_dtype=torch.float32)
        else:
            unet = UNet2DConditionModel(
                sample_size=latent.shape[-2],
                in_channels=latent.shape[0],
                out_channels=latent.shape[0],
                block_out_channels=self.block_out_channels,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                layers_per_block=1,
                # As in AudioLDM: no states to attend to, so every "cross" attention is to itself.
                cross_attention_dim=self.block_out_channels,
                attention_head_dim=8,
                class_embed_type="simple_projection",
                projection_class_embeddings_input_dim=conditioning.shape[-1],
                class_embeddings_concat=True,
            )
            # The components of a vector of length 1 are small beside the time step's, which are
            # about 1, and what they say would be learned late.
            with torch.no_grad():
                unet.class_embedding.weight.mul_(conditioning.shape[-1] ** 0.5)
        return unet.to(memory_format=torch.channels_last)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Tensor) -> Tensor:
        """Predict the velocity of (B, 4, h, w) noisy latents."""
        return self.unet(
            noisy, timesteps, encoder_hidden_states=None, class_labels=conditioning[:, 0]
        ).sample

    def sample_sheet(self, pipeline: Any, generators: list[torch.Generator]) -> Tensor:
        """Make log-mels of the sample captions, low bands at the bottom."""
        vectors = self.data.encode_text(self.sample_captions)[:, 0]
        nothing = self.unconditional[0].expand_as(vectors)
        latent = self.data.train[0][0]
        noise = [torch.randn(latent.shape, generator=generator) for generator in generators]
        latents = torch.stack(noise)
        self.scheduler.set_timesteps(20)
        for timestep in self.scheduler.timesteps:
            both = self.predict(
                torch.cat([latents] * 2), timestep, torch.cat([nothing, vectors])[:, None]
            )
            without, with_caption = both.chunk(2)
            velocity = without + 3.0 * (with_caption - without)
            latents = self.scheduler.step(velocity, timestep, latents).prev_sample
        log_mels = self.data.vae.decode(latents / self.data.vae.config.scaling_factor).sample
        return (log_mels.transpose(2, 3).flip(2) / 2 + 0.5).clamp(0, 1).expand(-1, 3, -1, -1)

    def pipeline(self) -> Any:
        """Assemble the AudioLDM pipeline around the U-Net as it is now."""
        from diffusers import AudioLDMPipeline
        from transformers import SpeechT5HifiGan

        return AudioLDMPipeline(
            vae=self.data.vae,
            text_encoder=self.data.text_encoder,
            tokenizer=self.data.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            vocoder=SpeechT5HifiGan.from_pretrained(self.data.pipeline / "vocoder"),
        )
