"""Trains the video decoder's 3D U-Net, from the image decoder's, and writes its pipeline."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.training.parts.diffusion import DiffusionRecipe
from nextgpt.training.parts.image_diffusion import PictureLatents
from nextgpt.training.parts.media import load_clips
from nextgpt.training.schedule import adamw_with_cosine

SHARED_PARTS = ("vae", "text_encoder", "tokenizer")
"""What the pipeline has in common with the image decoder's; stored there, linked here."""


class ClipLatents(PictureLatents):
    """Latents (C, T, h, w) of the world's clips, each frame encoded as a picture."""

    modality = Modality.VIDEO
    ENCODED_TOGETHER = 8

    def __init__(
        self,
        pipeline: Path = Path("checkpoints/micro/image"),
        world: Path | None = None,
        size: int = 64,
        num_frames: int = 8,
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        """Read from a world folder.

        Args:
            pipeline: Directory of the image decoder, whose autoencoder and text encoder are used.
            world: The folder of the manifest; the user's cache by default.
            size: Height and width of the frames in pixels.
            num_frames: Frames of a clip.
            batch_size: Clips a step.
            kwargs: As in `LatentData`.
        """
        super().__init__(pipeline, world, size, batch_size, **kwargs)
        self.num_frames = num_frames

    def load_media(self, items: list[Item]) -> Tensor:
        """Read clips: (N, T, 3, size, size) uint8."""
        return load_clips(items, self.world, self.size, self.num_frames)

    def to_latents(self, media: Tensor) -> Tensor:
        """Encode (B, T, 3, size, size) uint8 clips to (B, C, T, h, w)."""
        latents = super().to_latents(media.flatten(0, 1))
        return latents.unflatten(0, media.shape[:2]).transpose(1, 2)


class VideoDiffusionRecipe(DiffusionRecipe):
    """The 3D U-Net of a text-to-video (Zeroscope) pipeline.

    Its layers over pictures are those of the image U-Net; the layers over time between them start
    as the identity, so that training begins with a clip of unrelated pictures.
    """

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/video"),
        image_unet: Path = Path("checkpoints/micro/image/unet"),
        spatial_learning_rate: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        """Describe the U-Net; it is built when the sizes of latents and conditioning are known.

        Args:
            output: Directory of the pipeline; what it shares with the image decoder's is linked.
            image_unet: Directory of the image U-Net to begin with, unless there is ``start_from``.
            spatial_learning_rate: Peak learning rate of the layers over pictures; the learning
                rate is that of the layers over time.
            kwargs: As in `DiffusionRecipe`.
        """
        super().__init__(output, **kwargs)
        self.image_unet = Path(image_unet)
        self.spatial_learning_rate = spatial_learning_rate

    def build_unet(self, latent: Tensor, conditioning: Tensor) -> nn.Module:
        """Build a U-Net around the image decoder's, or load the one to go on from."""
        from diffusers import UNet3DConditionModel

        if self.start_from is not None:
            unet = UNet3DConditionModel.from_pretrained(self.start_from, torch_dtype=torch.float32)
        else:
            unet = inflated(self.image_unet)
        for module in unet.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # short trainings need none, and drawing it takes time
        return unet

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero; a rate of their own for the layers of the image U-Net."""
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.unet.named_parameters():
            groups[is_temporal(name)].append(parameter)
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_cosine(
            [
                {"params": groups[True], "lr": self.learning_rate},
                {"params": groups[False], "lr": self.spatial_learning_rate},
            ],
            self.learning_rate,
            steps,
        )

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Tensor) -> Tensor:
        """Predict the velocity of (B, C, T, h, w) noisy latents."""
        return self.unet(noisy, timesteps, encoder_hidden_states=conditioning).sample

    def sample_sheet(self, pipeline: Any, generators: list[torch.Generator]) -> Tensor:
        """Make the sample captions into film strips."""
        side = self.unet.config.sample_size * self.data.downscale
        clips = pipeline(
            self.sample_captions,
            num_inference_steps=20,
            guidance_scale=4.0,
            generator=generators,
            num_frames=self.data.train[0][0].shape[1],
            output_type="pt",
            height=side,
            width=side,
        ).frames  # (N, T, 3, H, W)
        return torch.cat(clips.unbind(1), dim=-1)

    def pipeline(self) -> Any:
        """Assemble the text-to-video pipeline around the U-Net as it is now."""
        from diffusers import TextToVideoSDPipeline

        return TextToVideoSDPipeline(
            vae=self.data.vae,
            text_encoder=self.data.text_encoder,
            tokenizer=self.data.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
        )

    def save(self, pipeline: Any) -> None:
        """Write the U-Net and the scheduler; link to the image decoder what is shared with it."""
        shared = {self.output / name: self.data.pipeline / name for name in SHARED_PARTS}
        for link in shared:
            # Through those of an earlier training the image decoder's would be written.
            if link.is_symlink():
                link.unlink()
        super().save(pipeline)
        for link, target in shared.items():
            shutil.rmtree(link)
            link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)


def is_temporal(name: str) -> bool:
    """Tell whether a weight of a 3D U-Net belongs to a layer over time."""
    return "temp_" in name or name.startswith("transformer_in.")


def inflated(image_unet: Path) -> Any:
    """Build a 3D U-Net that treats every frame as the image U-Net does.

    Args:
        image_unet: Directory of a ``UNet2DConditionModel`` whose attention heads have one width.

    Raises:
        ValueError: the heads have several widths, or a weight has no place in a 3D U-Net.
    """
    from diffusers import UNet2DConditionModel, UNet3DConditionModel
    from diffusers.models.attention_processor import Attention

    flat = UNet2DConditionModel.from_pretrained(image_unet, torch_dtype=torch.float32)
    config = flat.config
    widths = {m.inner_dim // m.heads for m in flat.modules() if isinstance(m, Attention)}
    if len(widths) != 1:
        raise ValueError(
            f"{image_unet}: attention heads of {', '.join(map(str, sorted(widths)))} channels; "
            "those of a 3D U-Net have one width: train an image U-Net whose heads have, too"
        )
    unet = UNet3DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        down_block_types=tuple(name.replace("2D", "3D") for name in config.down_block_types),
        up_block_types=tuple(name.replace("2D", "3D") for name in config.up_block_types),
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=widths.pop(),  # in 2D this is the number of heads
        norm_num_groups=config.norm_num_groups,
    )
    state = unet.state_dict()
    for name, value in flat.state_dict().items():
        if name not in state or state[name].numel() != value.numel():
            raise ValueError(f"{image_unet}: {name} has no place in a 3D U-Net")
        # Linear layers take the place of some convolutions of 1x1.
        state[name] = value.reshape(state[name].shape)
    for name, value in state.items():
        # Convolutions over time start as the identity already, attentions do not.
        if is_temporal(name) and ".proj_out." in f".{name}":
            state[name] = torch.zeros_like(value)
    unet.load_state_dict(state)
    return unet
