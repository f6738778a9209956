"""Vision transformers of the Hugging Face hub: CLIP, SigLIP, EVA as in BLIP-2, ViT."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

from nextgpt.architectures import configuration_folder, weightless
from nextgpt.encoders.base import Encoder
from nextgpt.media import Image, Medium
from nextgpt.modality import Modality
from nextgpt.sources import resolve

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class VisionTowerEncoder(Encoder):
    """The patches of a picture from one layer of a vision transformer.

    Args:
        source: A model with a vision tower: a directory, ``hf:`` or ``pypi:``.
        layer: Whose output; -2 is the last but one. No final norm is applied.
        keep_cls: Keep the class token, where there is one, before the patches.
        image_size: Width and height in pixels, where not the tower's own: its table of positions is
            interpolated.

    Raises:
        ValueError: the source has no such tower, or its weights are not all there.
    """

    modalities = (Modality.IMAGE,)

    def __init__(
        self,
        source: str,
        layer: int = -2,
        keep_cls: bool = False,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.layer = layer
        folder = configuration_folder(source) if weightless() else resolve(source)
        self.tower = _tower(folder)
        config = self.tower.config
        self.image_size = image_size or config.image_size
        self.interpolates = self.image_size != config.image_size
        if self.image_size % config.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of the patches' "
                f"{config.patch_size} pixels of {source}"
            )
        if not -config.num_hidden_layers - 1 <= layer <= config.num_hidden_layers:
            raise ValueError(f"layer {layer}: {source} has {config.num_hidden_layers} layers")
        names = {name.rpartition(".")[2] for name, _ in self.tower.named_parameters()}
        self.has_cls = bool(names & {"class_embedding", "cls_token"})
        self.keeps_cls = keep_cls and self.has_cls
        self.mean, self.std = _normalisation(folder)
        self.freeze()

    def feature_shape(self, modality: Modality) -> tuple[int, int]:
        """Return (patches, width), with the class token if it is kept."""
        self.check(modality)
        config = self.tower.config
        num_patches = (self.image_size // config.patch_size) ** 2
        return num_patches + self.keeps_cls, config.hidden_size

    def preprocess(self, modality: Modality, medium: Medium) -> Tensor:
        """Scale the short side to ``image_size``, crop the middle, normalise: (3, S, S)."""
        self.check(modality, medium)
        assert isinstance(medium, Image)
        side = self.image_size
        width, height = medium.size
        scale = side / min(width, height)
        size = max(side, round(width * scale)), max(side, round(height * scale))
        left, top = ((each - side) // 2 for each in size)
        # The crop in the picture's own pixels: a thin picture is never scaled as a whole.
        box = (left / scale, top / scale, (left + side) / scale, (top + side) / scale)
        box = (*box[:2], min(box[2], width), min(box[3], height))
        cropped = medium.pil.resize((side, side), PILImage.Resampling.BICUBIC, box=box)
        values = torch.from_numpy(np.asarray(cropped, dtype=np.float32) / 255).permute(2, 0, 1)
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (values - mean) / std

    def _features(self, modality: Modality, batch: Tensor) -> Tensor:
        output = self.tower(
            batch, output_hidden_states=True, interpolate_pos_encoding=self.interpolates
        )
        features = output.hidden_states[self.layer]
        return features[:, 1:] if self.has_cls and not self.keeps_cls else features

    def _description(self) -> dict[str, Any]:
        return {
            "encoder": "vision tower",
            "layer": self.layer,
            "keeps_cls": self.keeps_cls,
            "image_size": self.image_size,
            "normalisation": [self.mean, self.std],
        }


def _tower(folder: Path) -> Any:
    """Load the vision tower of a model, or its shapes where parts are built without weights."""
    from transformers import MODEL_MAPPING, AutoConfig, Blip2VisionConfig, Blip2VisionModel

    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: no model ({' '.join(str(error).split())})") from error
    config = getattr(config, "vision_config", config)
    known = {Blip2VisionConfig: Blip2VisionModel}
    kind = known.get(type(config)) or MODEL_MAPPING.get(type(config), None)
    if kind is None or not hasattr(config, "patch_size"):
        raise ValueError(f"{folder}: {config.model_type} is no vision transformer")
    if weightless():
        return kind(config)
    # The tower lies in its model under a name, or is the model.
    for names in ({}, {"key_mapping": {r"^vision_model\.": ""}}):
        tower, info = kind.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, **names
        )
        missing = sorted(info["missing_keys"])
        if not missing:
            return tower
    raise ValueError(
        f"{folder}: {len(missing)} weights of the vision tower are missing, first {missing[0]}"
    )


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the pixels, as the model says, else as CLIP does."""
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return list(said.get("image_mean", CLIP_MEAN)), list(said.get("image_std", CLIP_STD))
