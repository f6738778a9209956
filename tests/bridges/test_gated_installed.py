"""How gated cross-attention gets into a language model and out of it; what does not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from jsonargparse import ArgumentParser
from tiny_fusion import (
    HIDDEN,
    INPUT_IDS,
    MEDIA,
    NUM_LAYERS,
    context,
    fusion,
    llama,
    logits,
)
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from nextgpt.bridges.fusion import Fusion
from nextgpt.bridges.gated import Beside, GatedCrossAttention
from nextgpt.layout import Layout


@pytest.fixture
def bare() -> Tensor:
    with torch.no_grad():
        return llama()(INPUT_IDS).logits


def test_remove_leaves_the_language_model_as_it_was(bare: Tensor) -> None:
    llm, module = llama(), fusion()
    before = {name: dict(vars(each)) for name, each in llm.named_modules()}
    weights = {name: value.clone() for name, value in llm.state_dict().items()}
    hooks = {name: list(each._forward_pre_hooks) for name, each in llm.named_modules()}
    module.install(llm)
    assert llm.state_dict().keys() == weights.keys()
    assert not torch.equal(logits(llm, module, context()), bare)
    module.remove()
    module.remove()
    assert torch.equal(logits(llm, module, context()), bare)
    assert {name: list(each._forward_pre_hooks) for name, each in llm.named_modules()} == hooks
    assert {name: vars(each).keys() for name, each in llm.named_modules()} == {
        name: known.keys() for name, known in before.items()
    }
    assert all(torch.equal(value, weights[name]) for name, value in llm.state_dict().items())
    module.install(llm)
    assert not torch.equal(logits(llm, module, context()), bare)


def test_it_stands_before_every_nth_layer() -> None:
    for every_n, wanted in ((1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2]), (4, [3])):
        llm, module = llama(), fusion(every_n=every_n)
        module.install(llm)
        layers = llm.get_decoder().layers
        hooked = [index for index, layer in enumerate(layers) if layer._forward_pre_hooks]
        assert hooked == wanted
        assert len(module.layers) == len(wanted)


def refusals() -> dict[str, tuple[Callable[[], object], str]]:
    def twice() -> None:
        module = fusion()
        module.install(llama())
        module.install(llama())

    def two() -> None:
        llm = llama()
        fusion().install(llm)
        fusion().install(llm)

    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=8))
    return {
        "twice": (twice, "this GatedCrossAttention is installed already"),
        "two": (two, "LlamaForCausalLM has a GatedCrossAttention already"),
        "gpt2": (lambda: fusion().install(gpt2), "GPT2LMHeadModel has no list of decoder layers"),
        "linear": (lambda: fusion().install(nn.Linear(1, 1)), "Linear has no list of decoder"),
        "layers": (
            lambda: fusion().install(llama(num_hidden_layers=3)),
            "has 3 layers, GatedCrossAttention was built for 4",
        ),
        "none": (lambda: fusion(every_n=0), "every_n is 0: give 1 to 4"),
        "rare": (lambda: fusion(every_n=5), "every_n is 5: give 1 to 4"),
        "look": (lambda: fusion(look_back="next"), "look_back 'next' is unknown; use one of last"),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_does_not_fit_is_refused(name: str) -> None:
    action, message = refusals()[name]
    with pytest.raises(ValueError, match=message):
        action()


def test_a_refused_model_can_still_be_given_another_fusion() -> None:
    llm = llama(num_hidden_layers=3)
    with pytest.raises(ValueError, match="has 3 layers"):
        fusion().install(llm)
    GatedCrossAttention(HIDDEN, 3, MEDIA, every_n=1).install(llm)


def test_a_configuration_names_its_options_and_the_chain_gives_the_sizes() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--fusion", type=Callable[[int, int, int], Fusion])
    options = {"every_n": 2, "head_size": 4, "look_back": "all"}
    given = {"class_path": "nextgpt.bridges.gated.GatedCrossAttention", "init_args": options}
    parsed = parser.parse_object({"fusion": given})
    built = parser.instantiate_classes(parsed).fusion(HIDDEN, NUM_LAYERS, MEDIA)
    assert isinstance(built, GatedCrossAttention)
    assert (built.media_size, len(built.layers), built.layers[0].looks_at_all) == (MEDIA, 2, True)
    built.install(llama())


def test_the_number_of_parameters_of_a_layer_is_that_of_the_formula() -> None:
    inner = 4 * 3
    norms, gates = 2 * 2 * HIDDEN, 2
    attention = 2 * HIDDEN * inner + 2 * MEDIA * inner
    wanted = norms + attention + 8 * HIDDEN**2 + gates
    assert sum(parameter.numel() for parameter in fusion().layers[0].parameters()) == wanted


# In the sequence


def test_a_medium_takes_one_place_whatever_its_tokens() -> None:
    assembler = Beside(HIDDEN)
    layouts = [Layout(), Layout(frames_per_view=8), Layout(num_views=2)]
    assert [assembler.num_tokens(layout, 64) for layout in layouts] == [1, 1, 1]
    placed = assembler(torch.randn(4, 64, MEDIA), layouts)
    assert placed.shape == (3, HIDDEN)
    assert torch.equal(placed, assembler.vectors.repeat(3, 1))
    placed.sum().backward()
    assert assembler.vectors.grad is not None and (assembler.vectors.grad == 3).all()
    assert assembler(torch.zeros(0, 64, MEDIA), []).shape == (0, HIDDEN)
