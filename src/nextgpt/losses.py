"""The losses of the chain, as pure functions."""

from torch import Tensor
from torch.nn import functional


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


def alignment_loss(conditioning: Tensor, target: Tensor, kind: str = "mse") -> Tensor:
    """Distance of projected conditioning from the decoder's own text conditioning.

    Args:
        conditioning: (B, L, C) from the output projection.
        target: (B, L, C) from the decoder's text encoder.
        kind: ``mse`` (mean square, as a share of the target's own, so that decoders of every scale
            weigh alike: a CLAP vector's is 1 / C, CLIP states' about 1), ``norm`` (Euclidean norm
            of each position, as the original system computes it) or ``cosine`` (one minus the
            cosine of each position).

    Returns:
        Scalar.

    Raises:
        ValueError: the kind is unknown or the shapes differ.
    """
    if conditioning.shape != target.shape:
        raise ValueError(f"conditioning {conditioning.shape} differs from target {target.shape}")
    if kind == "mse":
        return functional.mse_loss(conditioning, target) / target.square().mean()
    if kind == "norm":
        return (conditioning - target).norm(dim=-1).mean()
    if kind == "cosine":
        return 1 - functional.cosine_similarity(conditioning, target, dim=-1).mean()
    raise ValueError(f"unknown alignment loss {kind!r}; choose mse, norm or cosine")
