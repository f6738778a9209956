"""Trains the image decoder's U-Net on latents and writes the whole Stable Diffusion pipeline."""

import hashlib
import logging
from pathlib import Path

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from nextgpt.sources import cache_dir
from nextgpt.training.parts.autoencoder import to_pixel_values
from nextgpt.training.parts.pictures import load_pictures, world_items
from nextgpt.training.schedule import adamw_with_cosine

logger = logging.getLogger(__name__)


class CaptionedLatents(Dataset):
    """Latents (4, h, w) with the conditioning (L, C) of their captions, both float32."""

    def __init__(self, latents: Tensor, captions: list[str], conditioning: dict[str, Tensor]):
        """Hold everything in memory: a latent is 4 kB, a distinct caption's conditioning 20 kB."""
        self.latents, self.captions, self.conditioning = latents, captions, conditioning

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.latents)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One latent and its conditioning."""
        return self.latents[index], self.conditioning[self.captions[index]]


class LatentData(lightning.LightningDataModule):
    """Pictures through the frozen autoencoder, captions through the frozen text encoder, once."""

    def __init__(
        self,
        pipeline: Path = Path("checkpoints/micro/image"),
        world: Path | None = None,
        size: int = 64,
        batch_size: int = 64,
    ) -> None:
        """Read from a world folder.

        Args:
            pipeline: Directory with trained ``vae``, ``text_encoder`` and ``tokenizer``.
            world: The folder of the manifest; the user's cache by default.
            size: Height and width of the pictures in pixels.
            batch_size: Latents a step.
        """
        super().__init__()
        self.pipeline = pipeline
        self.world = world or cache_dir() / "world"
        self.size = size
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        """Encode both splits."""
        from diffusers import AutoencoderTiny
        from transformers import AutoTokenizer, CLIPTextModel

        self.vae = AutoencoderTiny.from_pretrained(self.pipeline / "vae").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.pipeline / "tokenizer")
        self.text_encoder = CLIPTextModel.from_pretrained(
            self.pipeline / "text_encoder", dtype=torch.float32
        ).eval()
        self.train, self.validation = (self._encode(split) for split in ("train", "validation"))

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> Tensor:
        """Return the text encoder's last states, (B, L, C)."""
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens["input_ids"]).last_hidden_state.clone()

    @torch.inference_mode()
    def _encode(self, split: str) -> CaptionedLatents:
        items = world_items(self.world, split)
        pictures = load_pictures(items, self.world, self.size)
        weights = (self.pipeline / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
        digest = hashlib.sha256(weights + pictures.numpy().tobytes()).hexdigest()[:16]
        path = cache_dir() / "tensors" / f"latents-{digest}.safetensors"
        if not path.exists():
            batches = tqdm(pictures.split(64), desc=f"{split} latents", unit="batch")
            encoded = torch.cat([self.vae.encoder(to_pixel_values(batch)) for batch in batches])
            save_file({"latents": encoded.contiguous()}, path)
        latents = load_file(path)["latents"]
        captions = [item.caption for item in items]
        distinct = sorted(set(captions))
        states = [
            self.encode_text(distinct[start : start + 64]) for start in range(0, len(distinct), 64)
        ]
        conditioning = dict(zip(distinct, torch.cat(states), strict=True))
        scaled = latents * self.vae.config.scaling_factor
        return CaptionedLatents(scaled.clone(), captions, conditioning)

    def train_dataloader(self) -> DataLoader:
        """Shuffled training latents."""
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Latents of compositions that are not in the training split."""
        return DataLoader(self.validation, self.batch_size)


class ImageDiffusionRecipe(lightning.LightningModule):
    """Velocity prediction with zero terminal SNR and per-sample min-SNR weights.

    Source: arXiv:2202.00512 (velocity), arXiv:2305.08891 (zero terminal SNR), arXiv:2303.09556
    (min-SNR, here for velocity: weight min(SNR, gamma) / (SNR + 1)).
    """

    unconditional: Tensor

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/image"),
        start_from: Path | None = None,
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        learning_rate: float = 5e-4,
        min_snr_gamma: float = 5.0,
        unconditional_share: float = 0.1,
        sample_captions: tuple[str, ...] = (),
    ) -> None:
        """Describe the U-Net; it is built when the sizes of latents and conditioning are known.

        Args:
            output: Directory of the pipeline; ``vae``, ``text_encoder``, ``tokenizer`` are there.
            start_from: Directory of a U-Net to go on from.
            block_out_channels: Channels at each resolution.
            learning_rate: Peak learning rate.
            min_snr_gamma: Cap of the signal-to-noise ratio in the loss weight.
            unconditional_share: Share of samples conditioned on the empty caption.
            sample_captions: Drawn into a picture at every validation.
        """
        super().__init__()
        from diffusers import DDIMScheduler

        self.output, self.start_from = output, start_from
        self.block_out_channels = tuple(block_out_channels)
        self.learning_rate = learning_rate
        self.min_snr_gamma = min_snr_gamma
        self.unconditional_share = unconditional_share
        self.sample_captions = sample_captions
        self.scheduler = DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
            steps_offset=1,
        )

    def configure_model(self) -> None:
        """Build the U-Net, or load the one to go on from."""
        from diffusers import UNet2DConditionModel

        if hasattr(self, "unet"):
            return
        data: LatentData = self.trainer.datamodule  # type: ignore[attr-defined]
        latent, conditioning = data.train[0]
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
                attention_head_dim=8,
            )
        self.unet = unet.to(memory_format=torch.channels_last)
        self.register_buffer("unconditional", data.encode_text([""])[0], persistent=False)

    def _loss(self, latents: Tensor, conditioning: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weighted velocity loss of every sample, (B,)."""
        noise = torch.randn(latents.shape, generator=generator)
        # NOTE: one stratum a sample evens out the noise levels of a batch.
        strata = (torch.arange(len(latents)) + torch.rand(len(latents), generator=generator)) / len(
            latents
        )
        timesteps = (strata * self.scheduler.config.num_train_timesteps).long()
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        velocity = self.scheduler.get_velocity(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, encoder_hidden_states=conditioning).sample
        alphas = self.scheduler.alphas_cumprod[timesteps]
        snr = alphas / (1 - alphas)
        weights = (snr.clamp_max(self.min_snr_gamma) / (snr + 1)).clamp_min(0.05)
        errors = functional.mse_loss(predicted, velocity, reduction="none").mean(dim=(1, 2, 3))
        return weights * errors

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Denoising loss; batch is [(B, 4, h, w) latents, (B, L, C) conditioning]."""
        latents, conditioning = batch
        drop = torch.rand(len(latents), 1, 1) < self.unconditional_share
        conditioning = torch.where(drop, self.unconditional, conditioning)
        loss = self._loss(latents, conditioning, torch.default_generator).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_index: int) -> None:
        """The same loss with fixed noise."""
        generator = torch.Generator().manual_seed(batch_index)
        loss = self._loss(batch[0], batch[1], generator).mean()
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch[0]))

    def on_validation_epoch_end(self) -> None:
        """Draw the sample captions into one picture in the log folder."""
        if not self.sample_captions or self.trainer.sanity_checking:
            return
        from torchvision.utils import save_image

        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(i) for i in range(len(self.sample_captions))]
        pictures = pipeline(
            list(self.sample_captions),
            num_inference_steps=20,
            guidance_scale=4.0,
            generator=generators,
            output_type="pt",
            **self.picture_size(),
        ).images
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        path = folder / f"samples-{self.global_step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(pictures, path, nrow=8)
        logger.info("samples in %s", path)

    def picture_size(self) -> dict[str, int]:
        """Height and width of the pictures in pixels, as keyword arguments of the pipeline."""
        side = self.unet.config.sample_size * self._factor()
        return {"height": side, "width": side}

    def _factor(self) -> int:
        data: LatentData = self.trainer.datamodule  # type: ignore[attr-defined]
        return 2 ** (len(data.vae.config.encoder_block_out_channels) - 1)

    def pipeline(self):  # noqa: ANN201
        """Assemble the Stable Diffusion pipeline around the U-Net as it is now."""
        from diffusers import StableDiffusionPipeline

        data: LatentData = self.trainer.datamodule  # type: ignore[attr-defined]
        return StableDiffusionPipeline(
            vae=data.vae,
            text_encoder=data.text_encoder,
            tokenizer=data.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_cosine(self.unet.parameters(), self.learning_rate, steps)

    def on_train_end(self) -> None:
        """Write the pipeline (with averaged weights, where the averager ran)."""
        pipeline = self.pipeline()
        # NOTE: diffusers reads float16 files back as float32; transformers keeps their type, and
        # a pipeline of mixed types does not run.
        pipeline.unet.half()
        pipeline.vae.half()
        pipeline.save_pretrained(self.output)
