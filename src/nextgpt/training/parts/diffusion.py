"""What the recipes of all three U-Nets share: cached latents, loss, schedule, samples."""

import hashlib
import logging
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from tqdm import tqdm

from nextgpt.data.manifest import Item
from nextgpt.losses import denoising_loss
from nextgpt.modality import Modality
from nextgpt.sources import cache_dir
from nextgpt.training.parts.media import world_items
from nextgpt.training.parts.saving import WEIGHTS, halve
from nextgpt.training.schedule import adamw_with_cosine
from nextgpt.world.own_media import OWN

logger = logging.getLogger(__name__)

TEXT_BATCH = 64


class CaptionedLatents(Dataset):
    """Latents with the conditioning (L, C) of their captions, both float32, and their end tokens.

    From the end token's position on, states sum up the whole caption.
    """

    def __init__(
        self, latents: Tensor, items: list[Item], conditioning: dict[str, tuple[Tensor, int]]
    ):
        """Hold everything in memory: a picture's latent is 4 kB, a caption's conditioning 20 kB."""
        self.latents, self.items, self.conditioning = latents, items, conditioning

    def __len__(self) -> int:
        """Number of media."""
        return len(self.latents)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        """One latent, its conditioning and the position of the end token."""
        return self.latents[index], *self.conditioning[self.items[index].caption]


class LatentData(lightning.LightningDataModule, ABC):
    """Media through the frozen autoencoder, captions through the frozen text encoder, once."""

    modality: ClassVar[Modality]
    ENCODED_TOGETHER: ClassVar[int] = 64

    def __init__(
        self,
        pipeline: Path,
        world: Path | None = None,
        batch_size: int = 64,
        weights: dict[str, float] | None = None,
        own_share: float | None = None,
    ) -> None:
        """Read from a world folder.

        Args:
            pipeline: Directory with trained ``vae``, ``text_encoder`` and ``tokenizer``.
            world: The folder of the manifest; the user's cache by default.
            batch_size: Latents a step.
            weights: How many times as often as others a medium is drawn that has an attribute of
                this value: ``{"rising": 3, "falling": 3}``.
            own_share: Share of the media drawn that ``nextgpt world add`` brought, between 0 and 1;
                by their number when None.
        """
        super().__init__()
        self.pipeline = Path(pipeline)
        self.world = world or cache_dir() / "world"
        self.batch_size = batch_size
        self.weights = weights or {}
        self.own_share = own_share
        if own_share is not None and not 0 < own_share < 1:
            raise ValueError(f"own_share is {own_share}: give a share between 0 and 1")

    @abstractmethod
    def load_media(self, items: list[Item]) -> Tensor:
        """Read the media of a split, as small as the decoder makes them; one row an item."""

    @abstractmethod
    def to_latents(self, media: Tensor) -> Tensor:
        """Encode a batch of ``load_media``'s rows; unscaled, without gradient."""

    @abstractmethod
    def load_text_encoder(self) -> Any:
        """Return the frozen text encoder."""

    @abstractmethod
    def encode_text(self, captions: list[str]) -> Tensor:
        """Return the conditioning of captions, (B, L, C)."""

    def setup(self, stage: str) -> None:
        """Encode both splits."""
        from diffusers import AutoencoderTiny
        from transformers import AutoTokenizer

        self.vae = AutoencoderTiny.from_pretrained(self.pipeline / "vae").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.pipeline / "tokenizer")
        self.text_encoder = self.load_text_encoder()
        self.train, self.validation = (self._encode(split) for split in ("train", "validation"))

    @property
    def downscale(self) -> int:
        """How many times smaller than the media latents are, along each side."""
        return 2 ** (len(self.vae.config.encoder_block_out_channels) - 1)

    def tokens(self, captions: list[str]) -> Any:
        """Tokenize captions, padded to the decoder's length."""
        return self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")

    @torch.inference_mode()
    def _encode(self, split: str) -> CaptionedLatents:
        items = world_items(self.world, split, modality=self.modality)
        media = self.load_media(items)
        weights = (self.pipeline / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
        digest = hashlib.sha256(weights + media.numpy().tobytes()).hexdigest()[:16]
        path = cache_dir() / "tensors" / f"latents-{digest}.safetensors"
        if not path.exists():
            batches = tqdm(
                media.split(self.ENCODED_TOGETHER), desc=f"{split} latents", unit="batch"
            )
            encoded = torch.cat([self.to_latents(batch) for batch in batches])
            save_file({"latents": encoded.contiguous()}, path)
        latents = load_file(path)["latents"]
        distinct = sorted({item.caption for item in items})
        states = [
            self.encode_text(distinct[start : start + TEXT_BATCH])
            for start in range(0, len(distinct), TEXT_BATCH)
        ]
        ends = self.tokens(distinct)["attention_mask"].sum(1) - 1
        conditioning = {
            caption: (state, int(end))
            for caption, state, end in zip(distinct, torch.cat(states), ends, strict=True)
        }
        scaled = latents * self.vae.config.scaling_factor
        return CaptionedLatents(scaled.clone(), items, conditioning)

    def train_dataloader(self) -> DataLoader:
        """Training latents in random order, by their weights.

        Raises:
            ValueError: a weight is of a value that no training medium has, or none is one's own.
        """
        values = [list(map(str, item.attributes.values())) for item in self.train.items]
        if unknown := set(self.weights) - {value for found in values for value in found}:
            raise ValueError(f"weights: no {self.modality} has {', '.join(sorted(unknown))}")
        weights = [math.prod(self.weights.get(value, 1.0) for value in found) for found in values]
        if self.own_share is not None:
            weights = self._shared(weights, [OWN in found for found in values], self.own_share)
        is_weighted = bool(self.weights) or self.own_share is not None
        sampler = WeightedRandomSampler(weights, len(weights), replacement=is_weighted)
        return DataLoader(self.train, self.batch_size, sampler=sampler, drop_last=True)

    def _shared(self, weights: list[float], is_own: list[bool], share: float) -> list[float]:
        """Let one's own media have a share of all weight."""
        own = sum(weight for weight, mine in zip(weights, is_own, strict=True) if mine)
        others = sum(weights) - own
        if not own:
            raise ValueError(f"own_share: {self.world} has no {self.modality} of one's own")
        return [
            weight * (share / own if mine else (1 - share) / others)
            for weight, mine in zip(weights, is_own, strict=True)
        ]

    def val_dataloader(self) -> DataLoader:
        """Latents of compositions that are not in the training split."""
        return DataLoader(self.validation, self.batch_size)


class DiffusionRecipe(lightning.LightningModule, ABC):
    """Velocity prediction with zero terminal SNR and per-sample min-SNR weights.

    Source: `nextgpt.losses.denoising_loss`; arXiv:2305.08891 (zero terminal SNR).
    """

    unet: Any
    unconditional: Tensor

    def __init__(
        self,
        output: Path,
        start_from: Path | None = None,
        learning_rate: float = 5e-4,
        min_snr_gamma: float = 5.0,
        weight_floor: float = 0.5,
        unconditional_share: float = 0.1,
        words_share: float = 0.0,
        sample_captions: tuple[str, ...] = (),
    ) -> None:
        """Keep the settings; the U-Net is built when the sizes of the data are known.

        Args:
            output: Directory of the pipeline; its parts but U-Net and scheduler are there.
            start_from: Directory of a U-Net to go on from.
            learning_rate: Peak learning rate.
            min_snr_gamma: Cap of the signal-to-noise ratio in the loss weight.
            weight_floor: Least loss weight: what is decided in the first steps of a denoising, as
                motion is, is learned where there is nearly nothing but noise.
            unconditional_share: Share of samples conditioned on the empty caption.
            words_share: Share of samples conditioned on the states of the words alone; from the
                end token on, where states sum up the caption, they get the empty caption's. What
                a sum averages, as it does two things next to each other, is learned from these.
            sample_captions: Made into media at every validation.
        """
        super().__init__()
        from diffusers import DDIMScheduler

        self.output = Path(output)
        self.start_from = None if start_from is None else Path(start_from)
        self.learning_rate = learning_rate
        self.min_snr_gamma = min_snr_gamma
        self.weight_floor = weight_floor
        self.unconditional_share = unconditional_share
        self.words_share = words_share
        self.sample_captions = list(sample_captions)
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

    @property
    def data(self) -> LatentData:
        """The data the trainer was given."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, LatentData)
        return data

    @abstractmethod
    def build_unet(self, latent: Tensor, conditioning: Tensor) -> nn.Module:
        """Build a U-Net for latents and conditioning like these, or load the one to go on from."""

    @abstractmethod
    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Tensor) -> Tensor:
        """Predict the velocity of (B, ...) noisy latents."""

    @abstractmethod
    def pipeline(self) -> Any:
        """Assemble the diffusers pipeline around the U-Net as it is now."""

    @abstractmethod
    def sample_sheet(self, pipeline: Any, generators: list[torch.Generator]) -> Tensor:
        """Decode the sample captions into pictures to look at, (N, 3, H, W) in 0..1."""

    def configure_model(self) -> None:
        """Build the U-Net, or load the one to go on from."""
        if hasattr(self, "unet"):
            return
        self.unet = self.build_unet(*self.data.train[0][:2])
        unconditional = self.data.encode_text([""])[0]
        self.register_buffer("unconditional", unconditional, persistent=False)

    def _loss(self, latents: Tensor, conditioning: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weighted velocity loss of every sample, (B,)."""
        return denoising_loss(
            lambda noisy, timesteps: self.predict(noisy, timesteps, conditioning),
            latents,
            self.scheduler.alphas_cumprod,
            self.scheduler.config.prediction_type,
            generator,
            self.min_snr_gamma,
            self.weight_floor,
        )

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Denoising loss; batch is [(B, ...) latents, (B, L, C) conditioning, (B,) end tokens]."""
        latents, conditioning, ends = batch
        is_sum = torch.arange(conditioning.shape[1], device=ends.device) >= ends[:, None]
        words_only, nothing = torch.rand(2, len(latents), 1, device=ends.device)
        drop = (nothing < self.unconditional_share) | (is_sum & (words_only < self.words_share))
        conditioning = torch.where(drop[:, :, None], self.unconditional, conditioning)
        loss = self._loss(latents, conditioning, torch.default_generator).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_index: int) -> None:
        """The same loss with fixed noise."""
        generator = torch.Generator().manual_seed(batch_index)
        loss = self._loss(batch[0], batch[1], generator).mean()
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch[0]))

    def on_validation_epoch_end(self) -> None:
        """Make the sample captions' media into one picture in the log folder."""
        if not self.sample_captions or self.trainer.sanity_checking:
            return
        from torchvision.utils import save_image

        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(i) for i in range(len(self.sample_captions))]
        sheet = self.sample_sheet(pipeline, generators)
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        path = folder / f"samples-{self.global_step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Wide ones, such as film strips, stand below each other.
        save_image(sheet, path, nrow=8 if sheet.shape[-1] <= 2 * sheet.shape[-2] else 1)
        logger.info("samples in %s", path)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_cosine(self.unet.parameters(), self.learning_rate, steps)

    def on_train_end(self) -> None:
        """Write the pipeline (with averaged weights, where the averager ran)."""
        pipeline = self.pipeline()
        pipeline.unet.half()
        pipeline.vae.half()
        self.save(pipeline)
        for weights in self.output.glob(f"*/{WEIGHTS}"):
            if not weights.parent.is_symlink():
                halve(weights.parent)

    def save(self, pipeline: Any) -> None:
        """Write the pipeline's directory."""
        pipeline.save_pretrained(self.output)
