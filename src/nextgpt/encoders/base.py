"""What every media encoder offers: a frozen network from one medium to features."""

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from nextgpt.media import Medium
from nextgpt.modality import Modality


class Encoder(nn.Module, ABC):
    """A frozen network that turns media into features for the language model.

    Subclasses build their modules, then call ``freeze``. An encoder stays in evaluation mode
    whatever the model around it does, so equal media always give equal features and these may be
    cached.

    Shapes: B items, N features an item, D_enc their width.
    """

    modalities: tuple[Modality, ...]
    """The media this encoder takes, in the order of the MODALITIES table."""

    image_size: int
    """Width and height in pixels of the pictures that it computes with."""

    @abstractmethod
    def feature_shape(self, modality: Modality) -> tuple[int, int]:
        """Return (N, D_enc) of one item.

        Raises:
            ValueError: the encoder has no side for ``modality``.
        """

    @abstractmethod
    def preprocess(self, modality: Modality, medium: Medium) -> Tensor:
        """Turn one medium into the float32 tensor ``encode`` takes, without the batch dimension.

        Raises:
            ValueError: the encoder has no side for ``modality``, or ``medium`` is of another one.
        """

    @abstractmethod
    def _features(self, modality: Modality, batch: Tensor) -> Tensor:
        """Compute (B, N, D_enc) features."""

    @abstractmethod
    def _description(self) -> dict[str, Any]:
        """Return what besides the weights decides the features, as JSON values."""

    @torch.no_grad()
    def encode(self, modality: Modality, batch: Tensor) -> Tensor:
        """Encode a batch of preprocessed media without gradients; see ``forward``."""
        return self(modality, batch)

    def forward(self, modality: Modality, batch: Tensor) -> Tensor:
        """Encode a batch of preprocessed media.

        Args:
            modality: The kind of all media in the batch.
            batch: (B, ...) float32, stacked results of ``preprocess``, on any device.

        Returns:
            (B, N, D_enc) float32 features on the encoder's device, components about 1.

        Raises:
            ValueError: the encoder has no side for ``modality``.
        """
        self.check(modality)
        weight = next(self.parameters())
        features = self._features(modality, batch.to(weight.device, weight.dtype)).float()
        expected = (len(batch), *self.feature_shape(modality))
        assert features.shape == expected, f"{tuple(features.shape)} is not {expected}"
        return features

    def check(self, modality: Modality, medium: Medium | None = None) -> None:
        """Raise ValueError unless this encoder has that side and ``medium`` belongs to it."""
        if modality not in self.modalities:
            sides = ", ".join(self.modalities) or "no media"
            raise ValueError(
                f"this {type(self).__name__} encodes {sides}, not {modality}; "
                f"choose an encoder whose weights have a side for {modality}"
            )
        if medium is not None and medium.modality != modality:
            raise ValueError(f"expected {modality}, got {medium.modality}")

    def freeze(self) -> None:
        """Take every weight out of training."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: dropout or batch statistics would make features vary."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of weights and configuration: the key of a feature cache."""
        digest = hashlib.sha256(json.dumps(self._description(), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]
