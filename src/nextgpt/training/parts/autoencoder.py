"""Trains the decoders' autoencoders (``AutoencoderTiny``): of pictures, of log-mel spectrograms."""

import math
from pathlib import Path

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional

from nextgpt.training.schedule import adamw_with_cosine


def to_pixel_values(pictures: Tensor) -> Tensor:
    """Scale uint8 pictures to float32 in -1..1, channels last in memory; log-mels are there."""
    values = pictures.float() / 127.5 - 1 if pictures.dtype == torch.uint8 else pictures.float()
    return values.contiguous(memory_format=torch.channels_last)


def edges(pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels along width and height."""
    return pixel_values.diff(dim=-1), pixel_values.diff(dim=-2)


class AutoencoderRecipe(lightning.LightningModule):
    """Reconstructs pictures, or log-mels, through a latent at a quarter of their size.

    The loss is L1 + L2 + L1 on the edges (a sum that keeps outlines sharp), plus a small pull of
    the latents towards unit variance, so that diffusion can treat them as they are. Noise on the
    latents teaches the decoder to forgive the small errors of a sampled latent.
    """

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/image/vae"),
        start_from: Path | None = None,
        width: int = 48,
        latent_channels: int = 4,
        channels: int = 3,
        latent_noise: float = 0.05,
        learning_rate: float = 1e-3,
        crop: int = 32,
        decoder_alone: bool = False,
    ) -> None:
        """Build the autoencoder.

        Args:
            output: Directory that the trained autoencoder is written to.
            start_from: Directory of an autoencoder to go on from; the widths are then its own.
            width: Channels of every block.
            latent_channels: Channels of the latent.
            channels: Channels of a picture: 3, of a log-mel: 1.
            latent_noise: Standard deviation of the noise added to latents in training.
            learning_rate: Peak learning rate; it falls to zero over ``max_steps``.
            crop: Height and width of the random crop trained on, in pixels or bands and frames.
            decoder_alone: Leave the encoder as it is: latents stay, and with them the U-Nets that
                learned to make them.

        Raises:
            ValueError: the decoder alone is to be trained, of no autoencoder to go on from.
        """
        super().__init__()
        from diffusers import AutoencoderTiny

        self.output = output
        self.latent_noise = latent_noise
        self.learning_rate = learning_rate
        self.crop = crop
        if decoder_alone and start_from is None:
            raise ValueError("decoder_alone needs start_from: the autoencoder whose encoder stays")
        if start_from is not None:
            self.vae = AutoencoderTiny.from_pretrained(start_from)
        else:
            self.vae = AutoencoderTiny(
                in_channels=channels,
                out_channels=channels,
                encoder_block_out_channels=(width,) * 3,
                decoder_block_out_channels=(width,) * 3,
                num_encoder_blocks=(1, 2, 2),
                num_decoder_blocks=(2, 2, 1),
                latent_channels=latent_channels,
            )
        self.vae = self.vae.to(memory_format=torch.channels_last)
        self.vae.encoder.requires_grad_(not decoder_alone)
        self.decoder_alone = decoder_alone

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Loss on one random crop of every picture; batch is [(B, C, H, W)]."""
        pictures = batch[0]
        top, left = (
            int(torch.randint(0, side - self.crop + 1, ())) // 4 * 4 for side in pictures.shape[-2:]
        )
        crops = pictures[..., top : top + self.crop, left : left + self.crop]
        pixel_values = to_pixel_values(crops)
        latents = self.vae.encoder(pixel_values)
        noisy = latents + self.latent_noise * torch.randn_like(latents)
        decoded = self.vae.decoder(noisy)
        loss = functional.l1_loss(decoded, pixel_values)
        loss = loss + functional.mse_loss(decoded, pixel_values)
        for ours, theirs in zip(edges(decoded), edges(pixel_values), strict=True):
            loss = loss + functional.l1_loss(ours, theirs)
        spread = latents.var(dim=(0, 2, 3)).clamp_min(1e-6)
        moments = (spread - spread.log() - 1 + latents.mean(dim=(0, 2, 3)) ** 2).mean()
        self.log("loss", loss, prog_bar=True)
        return loss + 1e-3 * moments

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the mean PSNR of whole pictures in decibels."""
        pixel_values = to_pixel_values(batch[0])
        decoded = self.vae.decoder(self.vae.encoder(pixel_values)).clamp(-1, 1)
        errors = (decoded - pixel_values).square().mean(dim=(1, 2, 3)) / 4
        psnr_db = (-10 / math.log(10)) * errors.clamp_min(1e-10).log()
        self.log("psnr_db", psnr_db.mean(), prog_bar=True, batch_size=len(pixel_values))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        trained = [weight for weight in self.vae.parameters() if weight.requires_grad]
        return adamw_with_cosine(trained, self.learning_rate, steps)

    def on_train_end(self) -> None:
        """Measure the scale of the latents, unless they stay, and write the directory."""
        if not self.decoder_alone:
            loader = self.trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
            with torch.no_grad():
                latents = [self.vae.encoder(to_pixel_values(batch[0])) for batch in loader]
            scale = 1 / float(torch.cat(latents).std())
            self.vae.register_to_config(scaling_factor=round(scale, 4))
        self.vae.half().save_pretrained(self.output)
        self.vae.float()
