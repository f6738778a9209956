"""The losses of the chain, as pure functions."""

from collections.abc import Callable

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
    return sum(losses) / len(targets)


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
        Scalar; zero (with a gradient of zero) where B is 0.

    Raises:
        ValueError: the kind is unknown or the shapes differ.
    """
    if conditioning.shape != target.shape:
        raise ValueError(f"conditioning {conditioning.shape} differs from target {target.shape}")
    if not len(target):
        return conditioning.sum() * 0.0
    if kind == "mse":
        return functional.mse_loss(conditioning, target) / target.square().mean()
    if kind == "norm":
        return (conditioning - target).norm(dim=-1).mean()
    if kind == "cosine":
        return 1 - functional.cosine_similarity(conditioning, target, dim=-1).mean()
    raise ValueError(f"unknown alignment loss {kind!r}; choose mse, norm or cosine")


def alignment_weight(target: Tensor, kind: str = "mse") -> Tensor:
    """How much the runs of one batch count beside those of others.

    The mean of `alignment_loss` over batches, weighted so, is that of all their runs at once.

    Args:
        target: As in `alignment_loss`; B may be 0.
        kind: As in `alignment_loss`.

    Returns:
        Scalar.
    """
    return target.square().sum() if kind == "mse" else target.new_tensor(len(target))
