"""The losses against closed forms and against what diffusers computes."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from nextgpt.losses import (
    alignment_loss,
    alignment_weight,
    caption_cross_entropy,
    chunked_cross_entropy,
    denoising_loss,
    denoising_target,
    divergence,
    min_snr_weights,
    noisy_latents,
)

KINDS = ("relative_mse", "mse", "norm", "cosine")
PREDICTIONS = ("epsilon", "v_prediction")

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


def test_divergence_is_none_from_itself_and_counts_what_the_frozen_model_does_not_know() -> None:
    frozen = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    assert float(divergence(frozen, frozen)) == pytest.approx(0, abs=1e-6)
    # A third entry that takes half of all probability leaves half to every word.
    widened = torch.cat([frozen, frozen.logsumexp(1, keepdim=True)], dim=1)
    assert float(divergence(widened, frozen)) == pytest.approx(math.log(2))
    uniform = torch.zeros(1, 2)
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert float(divergence(uniform, frozen[:1])) == pytest.approx(expected)


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
        ("relative_mse", (25 / 4) / TARGET.square().mean()),  # mean over 4 components
        ("mse", 25 / 4),
        ("norm", 5 / 2),  # mean over 2 positions
        ("cosine", 1 / 2),  # the zero target counts as orthogonal, the other as equal
    ],
)
def test_an_alignment_loss_has_its_closed_form(kind: str, expected: float) -> None:
    assert float(alignment_loss(CONDITIONING, TARGET, kind)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_conditioning_has_no_loss_and_a_finite_gradient(kind: str) -> None:
    target = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    conditioning = target.clone().requires_grad_()
    loss = alignment_loss(conditioning, target, kind)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)  # measured 6e-8
    assert conditioning.grad is not None
    assert torch.allclose(conditioning.grad, torch.zeros(2, 3, 4), atol=1e-7)  # measured 2e-8


def test_only_the_cosine_ignores_length() -> None:
    target = torch.ones(1, 2, 4)
    for kind in ("relative_mse", "mse", "norm"):
        assert float(alignment_loss(3 * target, target, kind)) == pytest.approx(4), kind
    assert float(alignment_loss(3 * target, target, "cosine")) == pytest.approx(0, abs=1e-6)


def test_the_norm_is_the_mean_over_positions_of_the_root_of_summed_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    conditioning, target = torch.randn(2, 3, 5, 7, generator=generator)
    distances = [
        math.dist(ours, theirs)
        for ours, theirs in zip(
            conditioning.flatten(0, 1).tolist(), target.flatten(0, 1).tolist(), strict=True
        )
    ]
    expected = sum(distances) / len(distances)
    assert float(alignment_loss(conditioning, target, "norm")) == pytest.approx(expected)


def test_the_mean_square_is_a_share_of_the_targets_own() -> None:
    generator = torch.Generator().manual_seed(0)
    target, error = torch.randn(2, 3, 4, generator=generator), 0.1
    losses = [
        float(alignment_loss(scale * (1 + error) * target, scale * target)) for scale in (1, 20)
    ]
    assert losses == [pytest.approx(error**2, rel=1e-4)] * 2


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'l1'; choose relative_mse, mse, norm or cosine"):
        alignment_loss(TARGET, TARGET, "l1")


def test_different_shapes_are_refused_with_both() -> None:
    # They could be broadcast, so that nothing else would notice.
    with pytest.raises(ValueError, match=r"1, 2, 2.*1, 1, 2"):
        alignment_loss(CONDITIONING, TARGET[:, :1], "mse")


@pytest.mark.parametrize("kind", KINDS)
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


# Denoising


def scheduler(prediction: str) -> DDPMScheduler:
    """Stable Diffusion's own schedule."""
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction,
        clip_sample=False,
    )


def samples(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents and noise."""
    generator = torch.Generator().manual_seed(seed)
    latents, noise = torch.randn(2, count, 4, 3, 3, generator=generator)
    return latents, noise


def test_noise_is_mixed_in_as_diffusers_does() -> None:
    latents, noise = samples(5)
    timesteps = torch.tensor([0, 10, 500, 998, 999])
    reference = scheduler("v_prediction")
    alphas = reference.alphas_cumprod[timesteps]
    expected = reference.add_noise(latents, noise, timesteps)
    assert torch.allclose(noisy_latents(latents, noise, alphas), expected, atol=1e-6)
    velocity = reference.get_velocity(latents, noise, timesteps)
    assert torch.allclose(
        denoising_target(latents, noise, alphas, "v_prediction"), velocity, atol=1e-6
    )
    assert torch.equal(denoising_target(latents, noise, alphas, "epsilon"), noise)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_prediction_leads_a_scheduler_back_to_the_medium(prediction: str) -> None:
    # The target that diffusers' samplers take: not plain noise where the model predicts velocity.
    latents, noise = samples(1)
    steps = scheduler(prediction)
    alphas = steps.alphas_cumprod[[600]]
    noisy = noisy_latents(latents, noise, alphas)
    target = denoising_target(latents, noise, alphas, prediction)
    clean = steps.step(target, 600, noisy).pred_original_sample
    assert torch.allclose(clean, latents, atol=1e-5)  # measured 2e-7


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_have_their_closed_form(gamma: float) -> None:
    alphas = scheduler("epsilon").alphas_cumprod.double()
    snr = alphas / (1 - alphas)
    capped = snr.clamp(max=gamma)
    assert torch.allclose(min_snr_weights(alphas, "epsilon", gamma), capped / snr)
    assert torch.allclose(min_snr_weights(alphas, "v_prediction", gamma), capped / (snr + 1))


def test_the_ends_of_a_schedule_have_finite_weights() -> None:
    # Nothing but noise (zero terminal SNR), and no noise at all.
    ends = torch.tensor([0.0, 1.0])
    assert min_snr_weights(ends, "epsilon").tolist() == [1, 0]
    assert min_snr_weights(ends, "v_prediction").tolist() == [0, 0]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_wrong_medium_costs_min_snr_times_its_square_whatever_is_predicted(
    prediction: str,
) -> None:
    # The weights turn both losses into the one on the medium, min(SNR, gamma) |x' - x|^2.
    alphas = scheduler(prediction).alphas_cumprod
    latents, _ = samples(8, seed=1)
    wrong, _ = samples(8, seed=2)
    seen: list[Tensor] = []

    def denoise(noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Take the wrong medium for what the noise hides."""
        seen.append(timesteps)
        kept = alphas[timesteps]
        column = kept.view(-1, 1, 1, 1)
        noise = (noisy - column.sqrt() * wrong) / (1 - column).sqrt()
        return denoising_target(wrong, noise, kept, prediction)

    generator = torch.Generator().manual_seed(3)
    losses = denoising_loss(denoise, latents, alphas, prediction, generator)
    kept = alphas[seen[0]]
    snr = kept / (1 - kept)
    expected = snr.clamp(max=5) * (wrong - latents).square().flatten(1).mean(dim=1)
    assert losses.shape == (8,)
    assert torch.allclose(losses, expected, rtol=1e-5)  # measured 2e-7
    # One noise level of every eighth of the schedule.
    assert (seen[0] * 8 // 1000).tolist() == list(range(8))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_denoising_loss_equals_what_diffusers_scripts_compute(prediction: str) -> None:
    reference = scheduler(prediction)
    latents, _ = samples(6)
    calls: list[tuple[Tensor, Tensor]] = []

    def denoise(noisy: Tensor, timesteps: Tensor) -> Tensor:
        calls.append((noisy, timesteps))
        return noisy.tanh()

    generator = torch.Generator().manual_seed(0)
    losses = denoising_loss(
        denoise, latents, reference.alphas_cumprod, prediction, generator, weight_floor=0.3
    )
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    ((noisy, timesteps),) = calls
    assert torch.allclose(noisy, reference.add_noise(latents, noise, timesteps), atol=1e-6)
    is_velocity = prediction == "v_prediction"
    target = reference.get_velocity(latents, noise, timesteps) if is_velocity else noise
    errors = torch.nn.functional.mse_loss(noisy.tanh(), target, reduction="none")
    snr = reference.alphas_cumprod[timesteps] / (1 - reference.alphas_cumprod[timesteps])
    weights = torch.stack([snr, 5 * torch.ones(6)]).amin(dim=0) / (snr + is_velocity)
    expected = weights.clamp_min(0.3) * errors.mean(dim=(1, 2, 3))
    assert torch.allclose(losses, expected, rtol=1e-5)  # measured 1e-7


def test_a_prediction_without_a_loss_is_named() -> None:
    latents, noise = samples(1)
    for call in (
        lambda: denoising_target(latents, noise, torch.ones(1), "sample"),
        lambda: min_snr_weights(torch.ones(1), "sample"),
    ):
        with pytest.raises(ValueError, match="'sample'; .* epsilon and v_prediction"):
            call()
