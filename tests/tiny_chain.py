"""The whole chain at tiny size, random, reading and writing every medium; and media for it."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nextgpt import configuration
from nextgpt.batch import ChainBatch
from nextgpt.collate import collate
from nextgpt.data.conversations import ConversationSource
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

NUM_SIGNAL_TOKENS = {"image": 2, "audio": 3, "video": 4}
HIDDEN, FEEDFORWARD = 16, 24
LORA_RANK = 4


def tiny_chain_config(tiny: TinyParts) -> dict[str, Any]:
    """The ``chain`` of a configuration, made of tiny parts."""
    parts = asdict(tiny)
    return {
        "language_model": {
            "source": str(tiny.language_model),
            "max_length": 512,
            "lora": {
                "rank": LORA_RANK,
                "alpha": 8,
                "dropout": 0.0,
                "target_modules": ["q_proj", "v_proj"],
            },
        },
        "encoder": {
            "class_path": "nextgpt.encoders.MicroBindEncoder",
            "init_args": {"source": str(tiny.encoder), "trunk": str(tiny.trunk)},
        },
        "output_projection": {
            "class_path": "nextgpt.projections.OutputProjection",
            "init_args": {
                "hidden_size": HIDDEN,
                "num_layers": 1,
                "num_heads": 2,
                "feedforward_size": FEEDFORWARD,
            },
        },
        "num_signal_tokens": dict(NUM_SIGNAL_TOKENS),
        "decoders": {
            modality: {
                "class_path": f"nextgpt.decoders.{modality.title()}Decoder",
                "init_args": {"source": str(parts[modality]), "num_inference_steps": 2},
            }
            for modality in NUM_SIGNAL_TOKENS
        },
    }


def tiny_chain(tiny: TinyParts, seed: int = 0) -> NextGPTModel:
    """The chain with projections drawn from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return configuration.build(tiny_chain_config(tiny))


@cache
def medium(modality: str, seed: int = 0) -> Medium:
    """Noise with a caption; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    caption = f"{modality} number {seed}"
    if modality == Modality.IMAGE:
        return Image(rng.integers(0, 256, (32, 32, 3), np.uint8), caption=caption)
    if modality == Modality.AUDIO:
        noise = rng.uniform(-0.5, 0.5, 8_000).astype(np.float32)
        return Audio(noise, sample_rate_hz=16_000, caption=caption)
    frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    return Video(frames, frames_per_second=4, caption=caption)


def exchange(modality: str, seed: int = 0) -> Conversation:
    """A medium, or words, in and out; lengths differ from seed to seed."""
    if modality == Modality.TEXT:
        return Conversation().user("Hello" + seed * " there").assistant("Hello!")
    asked = ["What is this?" + seed * " Really?", medium(modality, seed)]
    return Conversation().user(*asked).assistant("Like this", medium(modality, seed + 1))


def batch_of(
    chain: NextGPTModel, conversations: list[Conversation], pack: bool = False
) -> ChainBatch:
    """What a training step sees of conversations."""

    def features(modality: Modality, media: list[Medium]) -> Tensor:
        return torch.cat(chain.encode(media))

    def targets(modality: Modality, media: list[Medium]) -> Tensor:
        return chain.decoders[modality].encode_text([str(each.caption) for each in media])

    return collate(
        [chain.prompter.training_plan(each) for each in conversations],
        features,
        targets,
        pack=pack,
    )


class SameExchange(ConversationSource):
    """One conversation again and again."""

    def conversation(self, index: int) -> Conversation:
        return exchange(Modality.IMAGE, seed=0)
