"""A real Llama at tiny size, gated cross-attention for it, and media of two rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from nextgpt.bridges.fusion import MediaContext
from nextgpt.bridges.gated import GatedCrossAttention

HIDDEN, NUM_LAYERS, MEDIA = 16, 4, 6
TOKENS = 3
TIMES = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 1, 1, 2, 2, 2]])
INPUT_IDS = torch.arange(16).view(2, 8) + 3


def llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    options = {
        "vocab_size": 50,
        "hidden_size": HIDDEN,
        "intermediate_size": 24,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "attn_implementation": "sdpa",
    }
    return LlamaForCausalLM(LlamaConfig(**(options | changes))).eval().requires_grad_(False)


def fusion(opened: bool = True, **changes: Any) -> GatedCrossAttention:
    torch.manual_seed(1)
    options = {"every_n": 2, "head_size": 4, "num_heads": 3}
    module = GatedCrossAttention(HIDDEN, NUM_LAYERS, MEDIA, **(options | changes))
    for parameter in module.parameters() if opened else []:
        nn.init.normal_(parameter, std=0.7)
    return module


def context(num_media: int = 3) -> MediaContext:
    """Two rows; the second has one medium fewer."""
    tokens = torch.randn(2, num_media, TOKENS, MEDIA, generator=torch.Generator().manual_seed(2))
    tokens[1, 2:] = 0
    return MediaContext(tokens, TIMES.clamp_max(num_media))


@torch.no_grad()
def logits(llm: nn.Module, module: GatedCrossAttention, seen: MediaContext | None) -> Tensor:
    module.context = seen
    return llm(INPUT_IDS).logits
