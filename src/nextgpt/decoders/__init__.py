"""Conditioning to media: frozen diffusers pipelines behind one interface."""

from nextgpt.decoders.audio import AudioDecoder
from nextgpt.decoders.base import Decoder
from nextgpt.decoders.image import ImageDecoder
from nextgpt.decoders.video import VideoDecoder

__all__ = ["AudioDecoder", "Decoder", "ImageDecoder", "VideoDecoder"]
