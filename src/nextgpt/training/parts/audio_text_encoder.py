"""Trains the small CLAP-architecture text encoder that conditions the audio decoder."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.training.parts.text_encoder import CaptionData, TextEncoderRecipe

ATTRIBUTES = ("concept", "second", "count", "register", "contour", "speed")
"""What a caption's vector must tell."""


def attribute_values(item: Item) -> dict[str, str]:
    """Read the attributes off a sound's manifest line."""
    return {name: str({"concept": item.concept, **item.attributes}[name]) for name in ATTRIBUTES}


class SoundCaptionData(CaptionData):
    """The captions of the world's sounds, with what each of them says."""

    modality = Modality.AUDIO
    HELD_OUT = "held_out_combination"

    def labels(self) -> tuple[dict[str, list[str]], Tensor]:
        """Return the values of every attribute, and each caption's: (captions, attributes)."""
        by_caption = {item.caption: attribute_values(item) for item in self.items}
        values = {
            name: sorted({found[name] for found in by_caption.values()}) for name in ATTRIBUTES
        }
        rows = [
            [values[name].index(by_caption[caption][name]) for name in ATTRIBUTES]
            for caption in self.captions + self.held_out
        ]
        return values, torch.tensor(rows)


class SoundTextEncoderRecipe(TextEncoderRecipe):
    """As its base, for one vector a caption; probes, thrown away, must read its attributes off.

    Sentences that differ in one word, such as rising and falling, have close vectors in MiniLM's
    space: without the probes the encoder tells them apart badly.
    """

    # NOTE: this architecture counts positions by what is no padding, so the end is not padding.
    PADDING = "<|padding|>"

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/audio"),
        start_from: Path | None = None,
        hidden_size: int = 128,
        num_layers: int = 2,
        model_max_length: int = 20,
        vocab_size: int = 500,
        learning_rate: float = 1e-3,
        probe_weight: float = 0.3,
        vector_noise: float = 0.03,
    ) -> None:
        """Describe the encoder; it is built when the captions are known.

        Args:
            output: Directory that receives ``tokenizer/`` and ``text_encoder/``.
            start_from: Directory with those two, to learn new words alone.
            hidden_size: Width of the states and of the conditioning.
            num_layers: Transformer layers.
            model_max_length: Tokens of a caption, start and end included.
            vocab_size: Tokens of the tokenizer at most.
            learning_rate: Peak learning rate.
            probe_weight: Weight of each probe's loss.
            vector_noise: Standard deviation of the noise that the probes have to see through.
        """
        super().__init__(
            output,
            start_from,
            hidden_size,
            num_layers,
            model_max_length,
            vocab_size,
            learning_rate,
        )
        self.save_hyperparameters(ignore=["output", "start_from"])

    def configure_model(self) -> None:
        """Build the probes too."""
        super().configure_model()
        if hasattr(self, "probes"):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        values, self.labels = data.labels()
        width = self.text_encoder.config.projection_dim
        self.probes = nn.ModuleDict(
            {name: nn.Linear(width, len(values[name])) for name in ATTRIBUTES}
        )

    def _load_text_encoder(self, folder: Path) -> nn.Module:
        from transformers import ClapTextModelWithProjection

        return ClapTextModelWithProjection.from_pretrained(folder, dtype=torch.float32)

    def _new_text_encoder(self) -> nn.Module:
        from transformers import ClapTextConfig, ClapTextModelWithProjection

        options: Any = self.hparams
        config = ClapTextConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=options["hidden_size"],
            intermediate_size=4 * options["hidden_size"],
            num_hidden_layers=options["num_layers"],
            num_attention_heads=options["hidden_size"] // 64,
            # Positions of this architecture begin behind the padding token's id.
            max_position_embeddings=options["model_max_length"] + self.tokenizer.pad_token_id + 1,
            projection_dim=options["hidden_size"],
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return ClapTextModelWithProjection(config)

    def _pooled(self, input_ids: Tensor) -> Tensor:
        return sound_conditioning(self.text_encoder, input_ids)

    def _probe_losses(self, indices: Tensor) -> Tensor:
        vectors = self._pooled(self.input_ids[indices.cpu()])
        noisy = vectors + self.hparams["vector_noise"] * torch.randn_like(vectors)
        scaled = noisy * vectors.shape[-1] ** 0.5
        labels = self.labels[indices.cpu()].to(vectors.device)
        return torch.stack(
            [
                functional.cross_entropy(self.probes[name](scaled), labels[:, column])
                for column, name in enumerate(ATTRIBUTES)
            ]
        )

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Contrast and probes; batch is [(B,) caption indices, (B, 384) targets]."""
        probes = self._probe_losses(batch[0]).sum()
        self.log("probes", probes, prog_bar=True)
        return super().training_step(batch) + self.hparams["probe_weight"] * probes

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the probes' loss as well."""
        super().validation_step(batch)
        self.log("validation_probes", self._probe_losses(batch[0]).sum(), batch_size=len(batch[0]))


def sound_conditioning(text_encoder: Any, input_ids: Tensor) -> Tensor:
    """Embed tokenized captions as the audio decoder does: (B, projection_dim) of length 1."""
    mask = (input_ids != text_encoder.config.pad_token_id).long()
    embeds = text_encoder(input_ids, attention_mask=mask).text_embeds
    return functional.normalize(embeds, dim=-1)
