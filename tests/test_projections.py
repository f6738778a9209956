"""The output projection: sizes of the original system, and statistics that follow training only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nextgpt.projections import OutputProjection, Standardise


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small() -> OutputProjection:
    """Runs of 3 tokens of width 8 to conditioning of 5x6."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return OutputProjection(8, 3, (5, 6), 16, num_layers=1, num_heads=2, feedforward_size=24)


def statistics(projection: OutputProjection) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in projection.named_buffers()}


# The projection


@pytest.mark.parametrize(
    ("num_signal_tokens", "conditioning_shape", "expected"),
    [(4, (77, 768), 31_958_784), (24, (77, 1024), 32_090_112), (8, (1, 512), 31_788_544)],
    ids=["image", "video", "audio"],
)
def test_the_default_has_as_many_parameters_as_the_original(
    num_signal_tokens: int, conditioning_shape: tuple[int, int], expected: int
) -> None:
    with torch.device("meta"):
        projection = OutputProjection(4096, num_signal_tokens, conditioning_shape)
    assert sum(parameter.numel() for parameter in projection.parameters()) == expected


def test_a_run_becomes_conditioning_in_float32() -> None:
    conditioning = small()(noise(4, 3, 8), noise(4, 3, 8, seed=1))
    assert conditioning.shape == (4, 5, 6)
    assert conditioning.dtype == torch.float32


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_signal_tokens_is_refused_with_both_numbers(count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count} signal tokens .* takes 3"):
        small()(noise(1, count, 8), noise(1, count, 8))


def test_states_and_embeddings_are_added() -> None:
    projection = small().eval()
    states, embeds = noise(2, 3, 8), noise(2, 3, 8, seed=1)
    both = projection(states, embeds)
    torch.testing.assert_close(both, projection(states + embeds, torch.zeros_like(embeds)))
    assert not torch.allclose(both, projection(states, torch.zeros_like(embeds)), atol=1e-3)


def test_a_batch_of_one_equals_a_batch_of_many() -> None:
    projection = small().eval()
    states, embeds = noise(4, 3, 8), noise(4, 3, 8, seed=1)
    alone = torch.cat([projection(states[i : i + 1], embeds[i : i + 1]) for i in range(4)])
    # Measured worst case 3e-7.
    torch.testing.assert_close(projection(states, embeds), alone, atol=1e-5, rtol=0)


def test_conditioning_positions_differ_from_the_start() -> None:
    positions = small().eval()(noise(1, 3, 8), noise(1, 3, 8, seed=1))[0]
    assert torch.cdist(positions, positions)[~torch.eye(5, dtype=torch.bool)].min() > 0.1


def test_every_parameter_has_a_gradient() -> None:
    projection = small()
    projection(noise(4, 3, 8), noise(4, 3, 8, seed=1)).square().sum().backward()
    idle = [
        name
        for name, parameter in projection.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not idle


# Standardising


def test_standardise_is_the_identity_at_the_start() -> None:
    items = noise(1, 3, 8)
    for mode in (True, False):
        torch.testing.assert_close(Standardise(3, 8).train(mode)(items), items)


def test_a_fixed_identity_changes_no_bit_and_stays_in_training() -> None:
    projection = small().train()
    projection.standardise.fix_as_identity()
    before = statistics(projection)
    items = torch.cat([noise(4, 3, 8) * 10.0**power for power in range(-6, 7)])
    assert torch.equal(projection.standardise(items), items)
    projection(noise(4, 3, 8) + 9, noise(4, 3, 8, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in projection.named_buffers())


def test_statistics_become_those_of_the_data() -> None:
    standardise = Standardise(4)
    mean, deviation = torch.tensor([0.0, 100.0, -3.0, 5e5]), torch.tensor([1.0, 0.01, 20.0, 1e3])
    for seed in range(300):
        standardise(mean + deviation * noise(64, 4, seed=seed))
    items = mean + deviation * noise(5000, 4, seed=1000)
    standardised = standardise.eval()(items)
    # Measured worst cases 0.04 and 0.02.
    torch.testing.assert_close(standardised.mean(0), torch.zeros(4), atol=0.1, rtol=0)
    torch.testing.assert_close(standardised.std(0), torch.ones(4), atol=0.1, rtol=0)


def test_the_first_batches_are_averaged() -> None:
    standardise = Standardise(1)
    for value in (10.0, 20.0, 60.0):
        standardise(torch.tensor([[value - 1], [value + 1]]))
    assert float(standardise.mean) == pytest.approx(30.0)


def test_evaluation_moves_no_statistics() -> None:
    standardise = Standardise(4).eval()
    standardise(noise(16, 4) + 9)
    assert not standardise.mean.any()
    assert not standardise.num_batches


def test_a_batch_of_one_moves_no_statistics() -> None:
    standardise = Standardise(4)
    standardise(noise(16, 4) + 9)
    before = {name: value.clone() for name, value in standardise.named_buffers()}
    standardise(noise(1, 4, seed=1) - 9)
    assert all(torch.equal(value, before[name]) for name, value in standardise.named_buffers())


def test_a_trained_projection_follows_its_batches() -> None:
    projection = small().train()
    before = statistics(projection)
    projection(noise(4, 3, 8) + 9, noise(4, 3, 8, seed=1))
    after = statistics(projection)
    assert before.keys() == after.keys()
    assert not [name for name in after if torch.equal(before[name], after[name])]


@pytest.mark.parametrize("order", ["frozen before train()", "frozen after train()", "only frozen"])
def test_a_frozen_projection_keeps_its_statistics_in_training_mode(order: str) -> None:
    projection = small()
    if order == "frozen after train()":
        projection.train()
    projection.requires_grad_(False)
    if order == "frozen before train()":
        projection.train()
    before = statistics(projection)
    projection(noise(4, 3, 8) + 9, noise(4, 3, 8, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in projection.named_buffers())


def test_a_projection_that_trains_again_follows_again() -> None:
    projection = small().requires_grad_(False).train().requires_grad_(True)
    projection(noise(4, 3, 8) + 9, noise(4, 3, 8, seed=1))
    assert projection.standardise.num_batches == 1
