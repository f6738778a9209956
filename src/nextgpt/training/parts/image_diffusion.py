"""Trains the image decoder's U-Net on latents and writes the whole Stable Diffusion pipeline."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.training.parts.autoencoder import to_pixel_values
from nextgpt.training.parts.diffusion import DiffusionRecipe, LatentData
from nextgpt.training.parts.media import load_pictures

HEAD_WIDTH = 16
"""Channels of an attention head."""


class PictureLatents(LatentData):
    """Latents (C, h, w) of the world's pictures."""

    modality = Modality.IMAGE

    def __init__(
        self,
        pipeline: Path = Path("checkpoints/micro/image"),
        world: Path | None = None,
        size: int = 64,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        """Read from a world folder.

        Args:
            pipeline: Directory with trained ``vae``, ``text_encoder`` and ``tokenizer``.
            world: The folder of the manifest; the user's cache by default.
            size: Height and width of the pictures in pixels.
            batch_size: Latents a step.
            kwargs: As in `LatentData`.
        """
        super().__init__(pipeline, world, batch_size, **kwargs)
        self.size = size

    def load_media(self, items: list[Item]) -> Tensor:
        """Read pictures: (N, 3, size, size) uint8."""
        return load_pictures(items, self.world, self.size)

    def to_latents(self, media: Tensor) -> Tensor:
        """Encode (B, 3, size, size) uint8 pictures to (B, C, h, w)."""
        return self.vae.encoder(to_pixel_values(media))

    def load_text_encoder(self) -> Any:
        """Return the CLIP text encoder."""
        from transformers import CLIPTextModel

        folder = self.pipeline / "text_encoder"
        return CLIPTextModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> Tensor:
        """Return the text encoder's last states, (B, L, C)."""
        return self.text_encoder(self.tokens(captions)["input_ids"]).last_hidden_state.clone()


class ImageDiffusionRecipe(DiffusionRecipe):
    """The U-Net of a Stable Diffusion pipeline, from noise to a picture's latent."""

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/image"),
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        **kwargs: Any,
    ) -> None:
        """Describe the U-Net; it is built when the sizes of latents and conditioning are known.

        Args:
            output: Directory of the pipeline; its parts but U-Net and scheduler are there.
            block_out_channels: Channels at each resolution, multiples of 16.
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
                sample_size=latent.shape[-1],
                in_channels=latent.shape[0],
                out_channels=latent.shape[0],
                block_out_channels=self.block_out_channels,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=conditioning.shape[-1],
                # Their number, whatever diffusers calls it; of one width, as a 3D U-Net has them.
                attention_head_dim=tuple(c // HEAD_WIDTH for c in self.block_out_channels),
            )
        return unet.to(memory_format=torch.channels_last)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Tensor) -> Tensor:
        """Predict the velocity of (B, C, h, w) noisy latents."""
        return self.unet(noisy, timesteps, encoder_hidden_states=conditioning).sample

    def sample_sheet(self, pipeline: Any, generators: list[torch.Generator]) -> Tensor:
        """Draw the sample captions."""
        side = self.unet.config.sample_size * self.data.downscale
        return pipeline(
            self.sample_captions,
            num_inference_steps=20,
            guidance_scale=2.5,
            generator=generators,
            output_type="pt",
            height=side,
            width=side,
        ).images

    def pipeline(self) -> Any:
        """Assemble the Stable Diffusion pipeline around the U-Net as it is now."""
        from diffusers import StableDiffusionPipeline

        return StableDiffusionPipeline(
            vae=self.data.vae,
            text_encoder=self.data.text_encoder,
            tokenizer=self.data.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
