"""Gated cross-attention in real Llamas: closed gates, masks, caches and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_fusion import (
    HIDDEN,
    INPUT_IDS,
    MEDIA,
    TIMES,
    TOKENS,
    context,
    fusion,
    llama,
    logits,
)
from tiny_parts import tiny_language_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from nextgpt.bridges.fusion import MediaContext
from nextgpt.bridges.gated import GatedCrossAttention, GatedLayer
from nextgpt.language_model import LanguageModel, LoraOptions
from nextgpt.modality import Modality


@pytest.fixture
def bare() -> Tensor:
    with torch.no_grad():
        return llama()(INPUT_IDS).logits


# Gates


@pytest.mark.parametrize("num_media", [0, 3])
@pytest.mark.parametrize("every_n", [1, 2, 3])
def test_closed_gates_leave_every_bit_of_the_language_model(
    bare: Tensor, every_n: int, num_media: int
) -> None:
    llm, module = llama(), fusion(opened=False, every_n=every_n)
    module.install(llm)
    assert torch.equal(logits(llm, module, context(num_media)), bare)


def test_either_gate_opens_it(bare: Tensor) -> None:
    for gate in ("attention_gate", "feed_forward_gate"):
        llm, module = llama(), fusion(opened=False)
        module.install(llm)
        for layer in module.layers:
            nn.init.constant_(getattr(layer, gate), 0.5)
        assert (logits(llm, module, context()) - bare).abs().max() > 1e-4


def test_gates_start_as_far_open_as_told(bare: Tensor) -> None:
    llm, module = llama(), fusion(opened=False, initial_gate=0.5)
    module.install(llm)
    assert (logits(llm, module, context()) - bare).abs().max() > 1e-4
    for layer in module.layers:
        nn.init.zeros_(layer.attention_gate)
        nn.init.zeros_(layer.feed_forward_gate)
    assert torch.equal(logits(llm, module, context()), bare)


def test_without_a_context_the_language_model_is_bare(bare: Tensor) -> None:
    llm, module = llama(), fusion()
    module.install(llm)
    assert torch.equal(logits(llm, module, None), bare)


@pytest.mark.parametrize("first", ["lora", "fusion"])
def test_closed_gates_leave_every_bit_of_a_model_with_fresh_lora(
    tmp_path: Path, first: str
) -> None:
    lora = LoraOptions(rank=2, dropout=0.0, target_modules=["q_proj", "v_proj"])
    model = LanguageModel(str(tiny_language_model(tmp_path)), lora=lora)
    model.add_signal_tokens({Modality.IMAGE: 2})
    model.eval()
    embeds = model.embed(INPUT_IDS)
    wanted = model(embeds)
    module = GatedCrossAttention(32, 2, MEDIA, every_n=1, head_size=4, num_heads=3)
    if first == "lora":
        model.add_lora()
    module.install(model.llm)
    model.add_lora()
    module.context = context()
    assert torch.equal(model(embeds), wanted)
    for layer in module.layers:
        nn.init.constant_(layer.attention_gate, 0.5)
    assert not torch.equal(model(embeds), wanted)
    if first == "lora":
        module.remove()
        module.install(model._peft)
        assert not torch.equal(model(embeds), wanted)


def test_the_states_of_a_bfloat16_model_keep_their_type_and_the_fusion_its_own() -> None:
    llm = llama().bfloat16()
    with torch.no_grad():
        wanted = llm(INPUT_IDS).logits
    module = fusion(opened=False)
    module.install(llm)
    seen = logits(llm, module, context())
    assert seen.dtype == torch.bfloat16
    assert torch.equal(seen, wanted)
    for layer in module.layers:
        nn.init.constant_(layer.attention_gate, 0.5)
    assert not torch.equal(logits(llm, module, context()), wanted)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


# What is attended to


def by_loops(layer: GatedLayer, states: Tensor, seen: MediaContext, look_back: str) -> Tensor:
    """One position and one head at a time, from the parameters alone; (B, T, D)."""
    weights = layer.state_dict()

    def norm(vector: Tensor, name: str) -> Tensor:
        return functional.layer_norm(
            vector, vector.shape, weights[f"{name}.weight"], weights[f"{name}.bias"]
        )

    result = states.clone()
    for row in range(states.shape[0]):
        for position in range(states.shape[1]):
            state, time = states[row, position], int(seen.times[row, position])
            attended = torch.zeros(HIDDEN)
            first = time - 1 if look_back == "last" else 0
            if time:
                tokens = seen.tokens[row, first:time].reshape(-1, MEDIA)
                query = weights["attention.query.weight"] @ norm(state, "norm")
                keys, values = (tokens @ weights["attention.key_value.weight"].T).chunk(2, dim=1)
                heads = []
                for head in range(3):
                    here = slice(4 * head, 4 * head + 4)
                    scores = keys[:, here] @ query[here] / 4**0.5
                    heads.append(scores.softmax(0) @ values[:, here])
                attended = weights["attention.output.weight"] @ torch.cat(heads)
            state = state + weights["attention_gate"].tanh() * attended
            inner = weights["feed_forward.1.weight"] @ norm(state, "feed_forward.0")
            inner = weights["feed_forward.3.weight"] @ functional.gelu(inner)
            result[row, position] = state + weights["feed_forward_gate"].tanh() * inner
    return result


@torch.no_grad()
@pytest.mark.parametrize("look_back", ["last", "all"])
def test_a_token_sees_the_last_medium_or_all_before_it_as_in_plain_loops(look_back: Any) -> None:
    layer = fusion(look_back=look_back).layers[0]
    states = torch.randn(2, 8, HIDDEN)
    wanted = by_loops(layer, states, context(), look_back)
    assert torch.allclose(layer(states, context()), wanted, atol=1e-4)  # worst 5e-6
    other = by_loops(layer, states, context(), "all" if look_back == "last" else "last")
    assert (other - wanted).abs().max() > 0.01


@torch.no_grad()
def test_before_the_first_medium_attention_gives_exactly_nothing() -> None:
    module = fusion().layers[0]
    seen, states = context(), torch.randn(2, 8, HIDDEN)
    attended = module.attention(states, module._media(seen), module._mask(seen))
    unseen = seen.times == 0
    assert not attended[unseen].any()
    assert attended[~unseen].any(dim=-1).all()
    nn.init.zeros_(module.feed_forward_gate)
    assert torch.equal(module(states, seen)[unseen], states[unseen])


@torch.no_grad()
@pytest.mark.parametrize("look_back", ["last", "all"])
def test_only_the_media_that_a_token_may_see_change_its_layer(look_back: Any) -> None:
    layer = fusion(look_back=look_back).layers[0]
    states, seen = torch.randn(2, 8, HIDDEN), context()
    before = layer(states, seen)
    for medium in range(3):
        tokens = seen.tokens.clone()
        tokens[:, medium] += 1
        changed = (layer(states, MediaContext(tokens, seen.times)) != before).any(dim=-1)
        number = medium + 1
        sees = seen.times == number if look_back == "last" else seen.times >= number
        assert torch.equal(changed, sees)


@torch.no_grad()
@pytest.mark.parametrize("look_back", ["last", "all"])
def test_a_row_does_not_depend_on_its_company(look_back: Any) -> None:
    llm, module = llama(), fusion(look_back=look_back)
    module.install(llm)
    together = logits(llm, module, context())
    module.context = MediaContext(context().tokens[1:, :2], TIMES[1:])
    alone = llm(INPUT_IDS[1:]).logits
    assert torch.allclose(together[1:], alone, atol=1e-6)  # worst 6e-8


# Reading in pieces


@torch.no_grad()
@pytest.mark.parametrize("look_back", ["last", "all"])
@pytest.mark.parametrize("lengths", [[1] * 8, [3, 4, 1], [5, 3]])
def test_reading_with_a_cache_gives_what_reading_at_once_gives(
    look_back: Any, lengths: list[int]
) -> None:
    llm, module = llama(), fusion(look_back=look_back)
    module.install(llm)
    # The last two tokens are written: behind the sequence all media have been seen.
    seen = MediaContext(context().tokens, TIMES[:, :6])
    module.context = MediaContext(seen.tokens, seen.window(0, 8).times)
    wanted = llm(INPUT_IDS).logits
    assert module.context.times[:, 6:].tolist() == [[2, 2], [2, 2]]
    cache, start, pieces = DynamicCache(config=llm.config), 0, []
    for length in lengths:
        module.context = seen.window(start, length)
        piece = INPUT_IDS[:, start : start + length]
        pieces.append(llm(piece, past_key_values=cache, use_cache=True).logits)
        start += length
    assert torch.allclose(torch.cat(pieces, dim=1), wanted, atol=1e-6)  # worst 6e-8


@torch.no_grad()
def test_what_the_media_are_to_a_layer_is_computed_once_for_all_windows() -> None:
    layer, seen = fusion().layers[0], context()
    calls: list[Any] = []
    layer.attention.key_value.register_forward_hook(lambda *given: calls.append(given))
    for start in range(8):
        layer(torch.randn(2, 1, HIDDEN), seen.window(start, 1))
    assert len(calls) == 1
    with torch.enable_grad():
        layer(torch.randn(2, 1, HIDDEN), seen.window(0, 1))
    assert len(calls) == 2


# Training


def gradients(llm: nn.Module, module: GatedCrossAttention, seen: MediaContext) -> dict[str, Tensor]:
    module.zero_grad()
    module.context = seen
    llm(INPUT_IDS, labels=INPUT_IDS).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}


def test_every_parameter_learns_and_the_language_model_does_not() -> None:
    llm, module = llama(), fusion()
    module.install(llm)
    for name, gradient in gradients(llm, module, context()).items():
        assert gradient.any(), name
    assert all(parameter.grad is None for parameter in llm.parameters())


def test_only_the_gates_learn_while_they_are_closed() -> None:
    llm, module = llama(), fusion(opened=False)
    module.install(llm)
    found = gradients(llm, module, context())
    assert {name for name, gradient in found.items() if gradient.any()} == {
        name for name in found if name.endswith("gate")
    }


def test_without_media_attention_has_gradients_that_are_zero() -> None:
    llm, module = llama(), fusion()
    module.install(llm)
    tokens = torch.zeros(2, 0, TOKENS, MEDIA, requires_grad=True)
    found = gradients(llm, module, MediaContext(tokens, torch.zeros_like(TIMES)))
    assert {name for name, gradient in found.items() if gradient.any()} == {
        name for name in found if "feed_forward" in name
    }
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert tokens.grad is not None


def test_computing_layers_anew_gives_the_same_gradients_and_keeps_less() -> None:
    seen = context()
    results = []
    for anew in (False, True):
        llm, module = llama(), fusion()
        module.install(llm)
        if anew:
            llm.gradient_checkpointing_enable()
            llm.train()
        sizes: list[int] = []

        def count(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            results.append((gradients(llm, module, seen), sum(sizes)))
    (plain, kept), (anew_found, kept_anew) = results
    assert plain.keys() == anew_found.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, anew_found[name]), name
    assert kept_anew < kept / 2
