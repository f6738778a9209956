"""Memory of answering, for each way to place the parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from nextgpt.decoders import Decoder
from nextgpt.doctor.memory import FusedAttention, LiveBytes, Models, num_bytes
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.placement import OFFLOADABLE

CHOICES: tuple[tuple[str, Collection[str], int | None], ...] = (
    ("float32", (), None),
    ("bfloat16", (), None),
    ("bfloat16", (), 1),
    ("bfloat16", ("decoders",), None),
    ("bfloat16", ("encoder", "decoders"), None),
    ("bfloat16", ("encoder", "decoders"), 1),
    ("bfloat16", OFFLOADABLE, 1),
)
"""Precision, what is offloaded, decoders kept loaded."""

MEASURED_IN = torch.bfloat16


def answering_memory(chain: NextGPTModel, models: Models) -> Iterator[tuple[str, int, int]]:
    """Measure every choice, on the meta device.

    Args:
        chain: Without weights.
        models: Those of its decoders.

    Yields:
        The choice in words, bytes on the device at its fullest, bytes beside it.
    """
    working = {"language_model": _reading_bytes(chain)}
    for modality, parts in models.items():
        working[modality] = _rendering_bytes(chain.decoders[modality], parts)
    always = sum(num_bytes(part) for part in chain.projections.values())
    for precision, offload, kept in CHOICES:
        dtype = getattr(torch, precision)
        weights = {
            "encoder": num_bytes(chain.encoder, dtype),
            "language_model": num_bytes(chain.language_model.llm, dtype),
        }
        for modality, parts in models.items():
            weights[modality] = sum(num_bytes(part, dtype) for part in parts.values())
        # What is computed with is measured once: it is as wide as the weights.
        scale = dtype.itemsize // MEASURED_IN.itemsize
        scaled = {name: scale * size for name, size in working.items()}
        yield _words(precision, offload, kept), *_placed(weights, scaled, always, offload, kept)


def _placed(
    weights: dict[str, int],
    working: dict[str, int],
    always: int,
    offload: Collection[str],
    kept: int | None,
) -> tuple[int, int]:
    decoders = sorted((weights[name] for name in weights if name in list(Modality)), reverse=True)
    loaded = sum(decoders[:kept])
    beside = sum(weights[name] for name in offload if name in weights)
    resident = always + sum(
        weights[name] for name in ("encoder", "language_model") if name not in offload
    )
    if "decoders" in offload:
        beside += loaded
    else:
        resident += loaded
    fullest = 0
    for name in weights:
        group = name if name in OFFLOADABLE else "decoders"
        brought = weights[name] if group in offload else 0
        fullest = max(fullest, brought + working.get(name, 0))
    return resident + fullest, beside


def _words(precision: str, offload: Collection[str], kept: int | None) -> str:
    words = f"dtype={precision}"
    if offload:
        words += f" offload={','.join(offload)}"
    return words if kept is None else f"{words} keep_decoders={kept}"


@torch.no_grad()
def _reading_bytes(chain: NextGPTModel) -> int:
    """Bytes at the peak of reading the longest prompt into a cache."""
    from transformers import DynamicCache

    language_model = chain.language_model
    size = (1, language_model.max_length, language_model.hidden_size)
    embeds = torch.empty(size, dtype=MEASURED_IN)
    llm = language_model.llm.eval()
    before = llm.dtype
    llm.to(MEASURED_IN)
    with FusedAttention(), LiveBytes() as counted:
        language_model(embeds, past_key_values=DynamicCache(config=llm.config))
    llm.to(before)
    return counted.peak


@torch.no_grad()
def _rendering_bytes(decoder: Decoder, models: Mapping[str, Any]) -> int:
    """Bytes at the peak of one guided denoising step, or of making the medium from its latents."""
    shape = decoder.latent_shape()
    length, width = decoder.conditioning_shape
    unet, autoencoder = (models[name].eval() for name in ("unet", "vae"))
    for model in (unet, autoencoder):
        nn.Module.to(model, MEASURED_IN)  # NOTE: that of diffusers talks.
    conditioning = torch.empty(2, length, width, dtype=MEASURED_IN)
    latents = torch.empty(2, *shape, dtype=MEASURED_IN)
    with FusedAttention(), LiveBytes() as denoising:
        decoder.denoise(unet, latents, torch.zeros(2), conditioning)
    pictures = torch.empty(*_as_pictures(shape), dtype=MEASURED_IN)
    with FusedAttention(), LiveBytes() as decoding:
        autoencoder.decode(pictures)
    return max(denoising.peak, decoding.peak)


def _as_pictures(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Latents as the autoencoder takes them: the frames of a clip are pictures of their own."""
    channels, *frames, height, width = shape
    return *(frames or [1]), channels, height, width
