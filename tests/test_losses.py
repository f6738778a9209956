"""The losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from nextgpt.losses import (
    alignment_loss,
    alignment_weight,
    caption_cross_entropy,
    chunked_cross_entropy,
)

# Two positions of a width of 2: the differences are (3, 4) and (0, 0).
CONDITIONING = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
TARGET = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_their_number() -> None:
    loss = caption_cross_entropy(torch.zeros(3, 7), torch.tensor([0, 3, 6]))
    assert float(loss) == pytest.approx(math.log(7))


def test_cross_entropy_is_the_mean_over_targets() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    loss = caption_cross_entropy(logits, torch.tensor([1, 0]))
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_cross_entropy_of_half_precision_logits_is_computed_in_float32() -> None:
    logits = torch.tensor([[20.0, 0.0]], dtype=torch.float16)
    loss = caption_cross_entropy(logits, torch.tensor([1]))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(20.0)


def test_cross_entropy_without_targets_is_zero_and_can_be_differentiated() -> None:
    weight = torch.ones(4, requires_grad=True)
    loss = caption_cross_entropy(torch.ones(0, 4) * weight, torch.ones(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("num_targets", [8, 9, 10, 1, 0])
def test_cross_entropy_in_chunks_has_the_same_value_and_gradient(num_targets: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(num_targets, 6, generator=generator).requires_grad_()
    table = torch.randn(50, 6, generator=generator).requires_grad_()
    targets = torch.randint(50, (num_targets,), generator=generator)
    scored: list[int] = []

    def score(states: torch.Tensor) -> torch.Tensor:
        scored.append(len(states))
        return states @ table.T

    whole = caption_cross_entropy(states @ table.T, targets)
    expected = torch.autograd.grad(whole, (states, table))
    loss = chunked_cross_entropy(states, targets, score, chunk_size=3)
    gradients = torch.autograd.grad(loss, (states, table))
    # Measured worst case 2e-7 of gradients around 1.
    torch.testing.assert_close((loss, gradients), (whole, expected), atol=1e-6, rtol=0)
    assert max(scored) <= 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mse", (25 / 4) / TARGET.square().mean()),  # mean over 4 components
        ("norm", 5 / 2),  # mean over 2 positions
        ("cosine", 1 / 2),  # the zero target counts as orthogonal, the other as equal
    ],
)
def test_an_alignment_loss_has_its_closed_form(kind: str, expected: float) -> None:
    assert float(alignment_loss(CONDITIONING, TARGET, kind)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mse", "norm", "cosine"])
def test_equal_conditioning_has_no_loss_and_a_finite_gradient(kind: str) -> None:
    target = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    conditioning = target.clone().requires_grad_()
    loss = alignment_loss(conditioning, target, kind)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)  # measured 6e-8
    assert conditioning.grad is not None
    assert conditioning.grad.isfinite().all()


def test_only_the_cosine_ignores_length() -> None:
    target = torch.ones(1, 2, 4)
    losses = {kind: float(alignment_loss(3 * target, target, kind)) for kind in ("mse", "norm")}
    assert losses == {"mse": pytest.approx(4), "norm": pytest.approx(4)}
    assert float(alignment_loss(3 * target, target, "cosine")) == pytest.approx(0, abs=1e-6)


def test_the_mean_square_is_a_share_of_the_targets_own() -> None:
    generator = torch.Generator().manual_seed(0)
    target, error = torch.randn(2, 3, 4, generator=generator), 0.1
    losses = [
        float(alignment_loss(scale * (1 + error) * target, scale * target)) for scale in (1, 20)
    ]
    assert losses == [pytest.approx(error**2, rel=1e-4)] * 2


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'l1'; choose mse, norm or cosine"):
        alignment_loss(TARGET, TARGET, "l1")


def test_different_shapes_are_refused_with_both() -> None:
    # They could be broadcast, so that nothing else would notice.
    with pytest.raises(ValueError, match=r"1, 2, 2.*1, 1, 2"):
        alignment_loss(CONDITIONING, TARGET[:, :1], "mse")


@pytest.mark.parametrize("kind", ["mse", "norm", "cosine"])
@pytest.mark.parametrize("sizes", [(1, 4), (2, 3), (0, 5)])
def test_the_weighted_mean_over_batches_is_the_loss_of_all_their_runs(
    kind: str, sizes: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    conditioning, target = torch.randn(2, 5, 3, 4, generator=generator)
    target[0] *= 10
    whole = alignment_loss(conditioning, target, kind)
    parts = list(zip(conditioning.split(sizes), target.split(sizes), strict=True))
    weights = torch.stack([alignment_weight(part, kind) for _, part in parts])
    losses = torch.stack([alignment_loss(*part, kind) for part in parts])
    torch.testing.assert_close((weights * losses).sum() / weights.sum(), whole)
