"""What is measured without numbers equals what the same step takes with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_chain import tiny_chain_config
from torch import nn
from torch.nn import functional

from nextgpt import configuration
from nextgpt.doctor.memory import (
    FusedAttention,
    LiveBytes,
    num_bytes,
    spared_bytes,
    step_bytes,
    training_memory,
)
from nextgpt.language_model import LanguageModel
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

TRAINS = ["lora", "input_projection", "output_projections", "signal_rows"]


@pytest.fixture(scope="module")
def chain(tiny: TinyParts) -> NextGPTModel:
    with torch.device("meta"):
        return configuration.build(tiny_chain_config(tiny))


def test_live_bytes_follow_tensors_from_birth_to_death() -> None:
    with LiveBytes() as counted:
        first = torch.zeros(100)
        view = first[:50]
        del first
        assert counted.live == 400
        second = view + 1
        assert counted.live == counted.peak == 600
        del view
        assert (counted.live, counted.peak) == (200, 600)
        del second
    assert counted.live == 0


def test_weights_that_were_there_before_do_not_count() -> None:
    layer, items = nn.Linear(8, 8), torch.zeros(2, 8)
    with LiveBytes() as counted:
        layer.weight.detach()
        layer(items)
    assert counted.peak == 64


def test_attention_without_numbers_keeps_no_scores() -> None:
    kept = {}
    for length in (64, 128):
        heads = torch.zeros(1, 2, length, 8, device="meta", requires_grad=True)
        with FusedAttention(), LiveBytes() as counted:
            functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        kept[length] = counted.peak
    assert kept[128] == 2 * kept[64]


@pytest.mark.parametrize("trains", [["input_projection"], TRAINS])
def test_a_step_without_numbers_takes_what_it_takes_with_them(
    chain: NextGPTModel, tiny: TinyParts, trains: list[str]
) -> None:
    real = configuration.build(tiny_chain_config(tiny))
    real.set_trainable(trains)
    with torch.device("meta"):
        chain.set_trainable(trains)
        predicted = step_bytes(chain, trains, batch_size=3, length=40)
    measured = step_bytes(real, trains, batch_size=3, length=40)
    assert measured > 100_000
    # Measured worst case 2%: what small tensors the two devices make on their way.
    assert predicted == pytest.approx(measured, rel=0.05)


def test_a_step_with_a_denoising_loss_takes_what_it_takes_with_numbers(
    chain: NextGPTModel, tiny: TinyParts
) -> None:
    real = configuration.build(tiny_chain_config(tiny))
    real.set_trainable(TRAINS)
    unets = {m: {"unet": decoder._component("unet")} for m, decoder in real.decoders.items()}
    with torch.device("meta"):
        chain.set_trainable(TRAINS)
        models = {m: each.models_without_weights() for m, each in chain.decoders.items()}
        without = step_bytes(chain, TRAINS, batch_size=3, length=40)
        # As the loss loads them: frozen, and without dropout.
        for parts in models.values():
            parts["unet"].eval().requires_grad_(False)
        predicted = step_bytes(chain, TRAINS, batch_size=3, length=40, models=models)
    measured = step_bytes(real, TRAINS, batch_size=3, length=40, models=unets)
    assert measured > 2 * without
    assert predicted == pytest.approx(measured, rel=0.05)


def test_a_denoising_loss_brings_its_models_onto_the_device(chain: NextGPTModel) -> None:
    with torch.device("meta"):
        models = {m: each.models_without_weights() for m, each in chain.decoders.items()}
        plain = training_memory(chain, TRAINS, 2, 40, "32-true")
        denoising = training_memory(chain, TRAINS, 2, 40, "32-true", models)
    loaded = sum(
        num_bytes(parts[name], torch.float32)
        for parts in models.values()
        for name in ("text_encoder", "unet", "vae")
    )
    assert denoising.weights == plain.weights + loaded
    assert denoising.activations > plain.activations
    assert denoising.gradients == plain.gradients


def test_checkpointing_leaves_the_inputs_of_layers(chain: NextGPTModel) -> None:
    with torch.device("meta"):
        plain, saving, again = (
            training_memory(chain, TRAINS, 2, 256, "32-true", checkpointing=checkpointing)
            for checkpointing in (False, True, False)
        )
    assert saving.activations < 0.9 * plain.activations
    # Measured worst case 2%: one mask more or less is alive at the peak.
    assert again.activations == pytest.approx(plain.activations, rel=0.05)


@pytest.mark.parametrize(
    ("kind", "a_weight", "a_row"),
    # One float32 a row; one float32 for 64 weights.
    [("8bit", 1, 4), ("4bit", 0.5 + 4 / 64, 0)],
)
@pytest.mark.parametrize("with_lora", [False, True])
def test_quantised_weights_of_vicuna_take_the_bytes_of_their_closed_form(
    kind: str, a_weight: float, a_row: int, with_lora: bool
) -> None:
    with torch.device("meta"):
        model = LanguageModel("hf:lmsys/vicuna-7b-v1.5@main", "vicuna_v1", dtype="bfloat16")
        if with_lora:
            model.add_lora()
    frozen = [p for name, p in model.llm.named_parameters() if ".lora_" not in name]
    assert spared_bytes(model) == 0
    model.quantization = kind
    width, wide, layers, words = 4096, 11008, 32, 32000
    weights = layers * (4 * width * width + 3 * width * wide)
    rows = layers * (4 * width + 2 * wide + width)
    # Both tables and the norms stay as they are.
    whole = 2 * (2 * words * width + (2 * layers + 1) * width)
    expected = weights * a_weight + rows * a_row + whole
    assert sum(p.nbytes for p in frozen) - spared_bytes(model) == expected


def test_memory_grows_with_the_batch_and_shrinks_with_the_precision(chain: NextGPTModel) -> None:
    with torch.device("meta"):
        small, large, half, whole = (
            training_memory(chain, TRAINS, batch_size, 64, precision)
            for batch_size, precision in (
                (1, "32-true"),
                (4, "32-true"),
                (4, "bf16-mixed"),
                (4, "bf16-true"),
            )
        )
    assert 3 < large.activations / small.activations < 4.5
    assert half.activations < large.activations
    assert (half.weights, half.gradients) == (large.weights, large.gradients)
    assert whole.weights < large.weights
    assert whole.gradients * 2 == large.gradients
    assert large.optimizer == 2 * large.gradients
    assert large.total == sum(vars(large).values())
    assert large.weights == num_bytes(chain)
