"""The perceiver resampler: fixed length, its formula head by head, and the times of frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nextgpt.bridges.perceiver import PerceiverResampler
from nextgpt.layout import Layout

SIZE = 12


def resampler(**changes: int) -> PerceiverResampler:
    torch.manual_seed(0)
    options = {"num_latents": 5, "depth": 2, "head_size": 4, "num_heads": 3}
    return PerceiverResampler(SIZE, 99, **(options | changes))


def by_hand(module: PerceiverResampler, features: Tensor) -> Tensor:
    """One medium's (N, D) features to its (M, D) tokens, head by head from the parameters alone."""
    weights = module.state_dict()

    def norm(vectors: Tensor, name: str) -> Tensor:
        centred = vectors - vectors.mean(-1, keepdim=True)
        scaled = centred / (vectors.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    latents = weights["latents"]
    for layer in range(2):
        name = f"layers.{layer}"
        queries = norm(latents, f"{name}.latents_norm")
        seen = torch.cat([norm(features, f"{name}.features_norm"), queries])
        query = queries @ weights[f"{name}.attention.query.weight"].T
        both = seen @ weights[f"{name}.attention.key_value.weight"].T
        heads = []
        for head in range(3):
            here = slice(4 * head, 4 * head + 4)
            key, value = both[:, :12][:, here], both[:, 12:][:, here]
            heads.append((query[:, here] @ key.T / 4**0.5).softmax(-1) @ value)
        output = weights[f"{name}.attention.output.weight"]
        latents = latents + torch.cat(heads, dim=1) @ output.T
        inner = norm(latents, f"{name}.feed_forward.0") @ weights[f"{name}.feed_forward.1.weight"].T
        latents = latents + functional.gelu(inner) @ weights[f"{name}.feed_forward.3.weight"].T
    return norm(latents, "norm")


def randomised(module: PerceiverResampler) -> PerceiverResampler:
    """Norms that differ from each other too."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@torch.no_grad()
def test_every_layer_attends_to_features_and_latents_head_by_head() -> None:
    module = randomised(resampler())
    features = torch.randn(2, 7, SIZE)
    wanted = torch.stack([by_hand(module, each) for each in features])
    assert torch.allclose(module(features), wanted, atol=1e-5)  # worst 1e-6


@pytest.mark.parametrize("num_features", [1, 7, 50])
def test_the_number_of_tokens_is_that_of_latents_and_their_width_that_of_features(
    num_features: int,
) -> None:
    module = resampler()
    assert module(torch.randn(3, num_features, SIZE)).shape == (3, 5, module.output_size)
    assert module.num_tokens(num_features) == 5
    assert module.output_size == SIZE


def test_no_media_are_no_tokens() -> None:
    module = resampler(max_frames=2)
    tokens = module.connect(torch.zeros(0, 7, SIZE), [], None)
    assert tokens.shape == (0, 5, SIZE)
    tokens.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


@torch.no_grad()
def test_the_order_of_features_does_not_matter_but_that_of_frames_does() -> None:
    module = randomised(resampler(max_frames=4))
    features = torch.randn(1, 6, SIZE)
    swapped = torch.cat([features[:, 3:], features[:, :3]], dim=1)
    assert torch.allclose(module(features), module(swapped), atol=1e-5)  # worst 5e-7
    film = [Layout(frames_per_view=2)]
    difference = module.connect(features, film, None) - module.connect(swapped, film, None)
    assert difference.abs().max() > 0.1
    within = features[:, [1, 0, 2, 5, 4, 3]]
    assert torch.allclose(
        module.connect(features, film, None), module.connect(within, film, None), atol=1e-5
    )


@torch.no_grad()
def test_each_frame_gets_its_time_and_pictures_get_none() -> None:
    module = randomised(resampler(max_frames=4))
    features = torch.randn(4, 6, SIZE)
    layouts = [Layout(frames_per_view=3), Layout(num_views=2), Layout(frames_per_view=2)]
    timed = features.clone()
    for index in range(6):
        timed[0, index] += module.frame_times[index // 2]
        timed[3, index] += module.frame_times[index // 3]
    assert torch.equal(module.connect(features, layouts, None), module(timed))


@torch.no_grad()
def test_without_max_frames_a_film_has_any_number_of_frames_in_no_order() -> None:
    module = resampler()
    features = torch.randn(1, 6, SIZE)
    assert torch.equal(module.connect(features, [Layout(1, 6)], None), module(features))


def test_frames_times_have_a_gradient_where_no_film_is() -> None:
    module = resampler(max_frames=4)
    module.connect(torch.randn(1, 6, SIZE), [Layout()], None).square().sum().backward()
    assert module.frame_times.grad is not None and not module.frame_times.grad.any()
    module.connect(torch.randn(1, 6, SIZE), [Layout(1, 3)], None)[0, 0, 0].backward()
    assert module.frame_times.grad[:3].any(dim=1).all()
    assert not module.frame_times.grad[3].any()


def test_more_frames_than_there_are_times_are_refused() -> None:
    with pytest.raises(ValueError, match="has 6 frames, more than max_frames 4"):
        resampler(max_frames=4).connect(torch.zeros(1, 6, SIZE), [Layout(1, 6)], None)


@pytest.mark.parametrize("name", ["num_latents", "depth", "max_frames"])
def test_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        resampler(**{name: 0})


def test_the_number_of_parameters_is_that_of_the_formula() -> None:
    size, inner, depth = 32, 8 * 64, 6
    module = PerceiverResampler(size, 99, max_frames=8)
    layer = 2 * 2 * size + 4 * size * inner + 2 * size + 8 * size**2
    wanted = 64 * size + 8 * size + depth * layer + 2 * size
    assert sum(parameter.numel() for parameter in module.parameters()) == wanted


@torch.no_grad()
def test_fresh_tokens_hang_on_the_medium_more_than_on_the_latents() -> None:
    torch.manual_seed(0)
    module = PerceiverResampler(256, 99, num_latents=8, depth=2)
    tokens = module(torch.randn(16, 10, 256))
    between_media = (tokens - tokens.mean(0)).norm(dim=-1).mean()
    assert between_media > 0.5 * tokens.norm(dim=-1).mean()
