"""Frozen encoders: media to features (B, N, D_enc)."""

from nextgpt.encoders.base import Encoder
from nextgpt.encoders.imagebind import ImageBindEncoder
from nextgpt.encoders.micro_bind import MicroBindEncoder
from nextgpt.encoders.trunk_map import TrunkMapEncoder
from nextgpt.encoders.vision_tower import VisionTowerEncoder

__all__ = [
    "Encoder",
    "ImageBindEncoder",
    "MicroBindEncoder",
    "TrunkMapEncoder",
    "VisionTowerEncoder",
]
