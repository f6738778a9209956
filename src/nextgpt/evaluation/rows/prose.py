"""The row about plain English: what the adapter costs on prose without any media."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from tqdm import tqdm

from nextgpt.evaluation.results import Row
from nextgpt.language_model import LanguageModel

if TYPE_CHECKING:
    from nextgpt.evaluation.runner import Evaluation

NUM_WINDOWS = 40
WINDOW = 500
"""Tokens that are read at a time, each window from its own start."""


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """How much more perplexed the language model is with its adapter than without."""
    model = evaluation.assistant.model.language_model
    count = evaluation.at_most(NUM_WINDOWS) * WINDOW

    def measured() -> dict[str, float]:
        return {
            name: perplexity(model, evaluation.material.prose, count, on)
            for name, on in (("adapter on", True), ("adapter off", False))
        }

    found = evaluation.answers.kept(f"prose-{count}", measured)
    note = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    ratio = found["adapter on"] / found["adapter off"]
    yield Row(
        "perplexity on outside prose, adapter on over off", ratio, "<", 1.05, count, note=note
    )


@torch.inference_mode()
def perplexity(model: LanguageModel, text: str, num_tokens: int, with_lora: bool) -> float:
    """Compute the perplexity of the text's first tokens.

    Args:
        model: It may write signal tokens, which cost it something, only with its adapter.
        text: Long enough for the tokens.
        num_tokens: How many tokens are read.
        with_lora: Whether the adapter is in place.
    """
    input_ids = torch.tensor(model.tokenizer(text)["input_ids"][:num_tokens])
    total, count = 0.0, 0
    with nullcontext() if with_lora else model.without_lora():
        for window in tqdm(input_ids.split(WINDOW), "prose", delay=2):
            logits = model.logits(model(model.embed(window[None, :-1])))[0]
            if not with_lora:
                logits = logits[:, : model.vocabulary_size]
            total += float(functional.cross_entropy(logits, window[1:], reduction="sum"))
            count += len(window) - 1
    return math.exp(total / max(count, 1))
