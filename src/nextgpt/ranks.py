"""What the ranks of a run, the processes that train one model together, tell each other."""

from torch import Tensor, distributed


def summed(tensor: Tensor) -> Tensor:
    """Add up the tensors of all ranks, without a gradient; a process alone gets its own back.

    NOTE: every rank must call it equally often, or all of them wait forever.
    """
    total = tensor.detach().clone()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
    return total
