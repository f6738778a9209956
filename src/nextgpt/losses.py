"""The losses of the chain, as pure functions."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def caption_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean next-token cross-entropy.

    Args:
        logits: (T, V), one row a target.
        targets: (T,) ids.

    Returns:
        Scalar; zero (with a gradient of zero) where there are no targets.
    """
    if not len(targets):
        return logits.sum() * 0.0
    return functional.cross_entropy(logits.float(), targets)


def chunked_cross_entropy(
    states: Tensor, targets: Tensor, score: Callable[[Tensor], Tensor], chunk_size: int = 1024
) -> Tensor:
    """`caption_cross_entropy` of scored states, which never holds the logits of all targets.

    A row of logits is as long as the vocabulary: 4096 targets of a 7B model would take half a
    gigabyte, several times over in the backward pass. Chunks are scored a second time there.

    Args:
        states: (T, D), one row a target.
        targets: (T,) ids.
        score: Maps (n, D) states to (n, V) logits.
        chunk_size: Targets that are scored at once.

    Returns:
        Scalar; zero (with a gradient of zero) where there are no targets.
    """
    if len(targets) <= chunk_size:
        return caption_cross_entropy(score(states), targets)

    def chunk_loss(states: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(score(states).float(), targets, reduction="sum")

    chunks = zip(states.split(chunk_size), targets.split(chunk_size), strict=True)
    losses = [checkpoint(chunk_loss, *chunk, use_reentrant=False) for chunk in chunks]
    return torch.stack(losses).sum() / len(targets)


def divergence(logits: Tensor, frozen: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of next-token distributions from those of a frozen model.

    Args:
        logits: (T, V + S); what the frozen model does not know costs as much as it is likely.
        frozen: (T, V).

    Returns:
        Scalar, in nats a token.

    Source: arXiv:1503.02531 (distillation), of a model into itself with an adapter.
    """
    learned = functional.log_softmax(logits.float(), dim=-1)[:, : frozen.shape[1]]
    wanted = functional.log_softmax(frozen.float(), dim=-1)
    return functional.kl_div(learned, wanted, reduction="batchmean", log_target=True)


def alignment_loss(conditioning: Tensor, target: Tensor, kind: str = "relative_mse") -> Tensor:
    """Distance of projected conditioning from the decoder's own text conditioning.

    Args:
        conditioning: (B, L, C) from the output projection.
        target: (B, L, C) from the decoder's text encoder.
        kind: ``relative_mse`` (mean square, as a share of the target's own, so that decoders of
            every scale weigh alike: a CLAP vector's is 1 / C, CLIP states' about 1), ``mse`` (mean
            square), ``norm`` (Euclidean norm of each position, as the original system computes it)
            or ``cosine`` (one minus the cosine of each position).

    Returns:
        Scalar; zero (with a gradient of zero) where B is 0 and where the two are equal.

    Raises:
        ValueError: the kind is unknown or the shapes differ.
    """
    if conditioning.shape != target.shape:
        raise ValueError(f"conditioning {conditioning.shape} differs from target {target.shape}")
    if not len(target):
        return conditioning.sum() * 0.0
    if kind == "relative_mse":
        return functional.mse_loss(conditioning, target) / target.square().mean()
    if kind == "mse":
        return functional.mse_loss(conditioning, target)
    if kind == "norm":
        return (conditioning - target).norm(dim=-1).mean()
    if kind == "cosine":
        return 1 - functional.cosine_similarity(conditioning, target, dim=-1).mean()
    raise ValueError(f"unknown alignment loss {kind!r}; choose relative_mse, mse, norm or cosine")


def alignment_weight(target: Tensor, kind: str = "relative_mse") -> Tensor:
    """How much the runs of one batch count beside those of others.

    The mean of `alignment_loss` over batches, weighted so, is that of all their runs at once.

    Args:
        target: As in `alignment_loss`; B may be 0.
        kind: As in `alignment_loss`.

    Returns:
        Scalar.
    """
    return target.square().sum() if kind == "relative_mse" else target.new_tensor(len(target))


def noisy_latents(latents: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
    """Mix every sample with noise: sqrt(alpha) latents + sqrt(1 - alpha) noise.

    Args:
        latents: (B, ...).
        noise: (B, ...), standard normal.
        alphas: (B,) share of the latents' variance that is kept, the scheduler's
            ``alphas_cumprod`` at each sample's timestep.
    """
    alphas = _column(alphas, latents)
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise


def denoising_target(latents: Tensor, noise: Tensor, alphas: Tensor, prediction: str) -> Tensor:
    """What a denoiser of noisy latents predicts.

    Args:
        latents: As in `noisy_latents`.
        noise: As in `noisy_latents`.
        alphas: As in `noisy_latents`.
        prediction: ``epsilon`` (the noise) or ``v_prediction`` (the velocity, sqrt(alpha) noise -
            sqrt(1 - alpha) latents), the scheduler's ``prediction_type``.

    Raises:
        ValueError: the prediction is another.

    Source: arXiv:2202.00512, section 4 and appendix D.
    """
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        alphas = _column(alphas, latents)
        return alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    raise ValueError(_unknown_prediction(prediction))


def min_snr_weights(alphas: Tensor, prediction: str, gamma: float = 5.0) -> Tensor:
    """Weights of the squared errors that count every noise level of the medium about alike.

    min(SNR, gamma) / SNR for epsilon and min(SNR, gamma) / (SNR + 1) for v-prediction, where SNR is
    alpha / (1 - alpha); written so that neither no noise nor nothing but noise divides by zero.

    Args:
        alphas: (B,) as in `noisy_latents`, 0..1.
        prediction: As in `denoising_target`.
        gamma: Cap of the signal-to-noise ratio.

    Returns:
        (B,).

    Raises:
        ValueError: the prediction is another.

    Source: arXiv:2303.09556, section 3.4.
    """
    if prediction == "epsilon":
        return (gamma * (1 - alphas) / alphas).clamp_max(1)
    if prediction == "v_prediction":
        return torch.minimum(alphas, gamma * (1 - alphas))
    raise ValueError(_unknown_prediction(prediction))


def denoising_loss(
    denoise: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    alphas_cumprod: Tensor,
    prediction: str,
    generator: torch.Generator | None = None,
    gamma: float = 5.0,
    weight_floor: float = 0.0,
) -> Tensor:
    """Weighted squared error of a denoiser at one noise level a sample.

    Args:
        denoise: Given noisy latents (B, ...) and timesteps (B,) int64, predicts (B, ...).
        latents: (B, ...) float32, scaled as the denoiser wants them.
        alphas_cumprod: (T,) of the scheduler.
        prediction: As in `denoising_target`.
        generator: Of the noise and the timesteps, on the CPU so that every device draws the same;
            PyTorch's own by default.
        gamma: As in `min_snr_weights`.
        weight_floor: Least weight of a sample.

    Returns:
        (B,).
    """
    device, count = latents.device, len(latents)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    # NOTE: one stratum a sample evens out the noise levels of a batch.
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    timesteps = (strata * len(alphas_cumprod)).long().clamp_max(len(alphas_cumprod) - 1)
    alphas = alphas_cumprod.cpu()[timesteps].to(device)
    predicted = denoise(noisy_latents(latents, noise, alphas), timesteps.to(device))
    target = denoising_target(latents, noise, alphas, prediction)
    errors = (predicted.float() - target).square().flatten(1).mean(dim=1)
    return min_snr_weights(alphas, prediction, gamma).clamp_min(weight_floor) * errors


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Shape (B,) so that it multiplies (B, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _unknown_prediction(prediction: str) -> str:
    return (
        f"the scheduler's prediction_type is {prediction!r}; a denoising loss is known for epsilon "
        "and v_prediction"
    )
