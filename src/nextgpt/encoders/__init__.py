"""Frozen encoders: media to features (B, N, D_enc)."""

from nextgpt.encoders.base import Encoder
from nextgpt.encoders.imagebind import ImageBindEncoder
from nextgpt.encoders.micro_bind import MicroBindEncoder

__all__ = ["Encoder", "ImageBindEncoder", "MicroBindEncoder"]
