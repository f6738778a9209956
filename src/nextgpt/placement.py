"""Where the parts of a chain compute, and where they rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from nextgpt.decoders import Decoder

OFFLOADABLE = ("encoder", "language_model", "decoders")


class Placement:
    """Brings parts to the device when they compute, and others away for them.

    Parts that are not offloaded stay on the device. Of the others one is there at a time. With
    ``keep_decoders`` only so many decoders stay in memory at all, those used last; a further one
    is loaded from disk.

    Args:
        device: Where parts compute, such as "cuda", "cuda:1", "mps" or "cpu".
        offload: Parts that rest in the processor's memory, of ``OFFLOADABLE``.
        keep_decoders: Decoders that stay loaded; all by default.

    Raises:
        ValueError: there is no such device or part, or no decoder may stay.
    """

    def __init__(
        self,
        device: str = "cpu",
        offload: Collection[str] = (),
        keep_decoders: int | None = None,
    ) -> None:
        if unknown := sorted(set(offload) - set(OFFLOADABLE)):
            raise ValueError(f"cannot offload {unknown[0]!r}; choose from {', '.join(OFFLOADABLE)}")
        if keep_decoders is not None and keep_decoders < 1:
            raise ValueError(f"keep_decoders is {keep_decoders}: one at least must stay to be used")
        self.device = usable_device(device)
        self.offload = frozenset(offload)
        self.keep_decoders = keep_decoders
        self._resting: list[Any] = []
        self._awake: Any = None
        self._loaded: list[Decoder] = []

    def settle(self, parts: Mapping[str, Sequence[Any]]) -> None:
        """Bring every part where it rests.

        Args:
            parts: By the name that ``offload`` has for them; modules and decoders.
        """
        for name, group in parts.items():
            for part in group:
                part.to("cpu" if name in self.offload else self.device)
            if name in self.offload:
                self._resting += group

    @property
    def is_shared(self) -> bool:
        """Whether a part that computes may have to leave the device for another."""
        return bool(self.offload) or self.keep_decoders is not None

    def wake(self, part: Any) -> None:
        """Make a part ready to compute; no other may be in the middle of computing."""
        if isinstance(part, Decoder):
            self._keep(part)
        if part is self._awake:
            return
        if self._awake is not None:
            self._awake.to("cpu")
            self._awake = None
        if any(part is each for each in self._resting):
            part.to(self.device)
            self._awake = part

    def _keep(self, decoder: Decoder) -> None:
        """Unload the decoders that have not been used for the longest time."""
        self._loaded = [*(each for each in self._loaded if each is not decoder), decoder]
        while self.keep_decoders is not None and len(self._loaded) > self.keep_decoders:
            self._loaded.pop(0).unload()


def usable_device(name: str) -> torch.device:
    """Check that there is a device.

    Raises:
        ValueError: there is not; names those that there are.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        accelerator = torch.accelerator.current_accelerator()
        there = ["cpu", *([accelerator.type] if accelerator is not None else [])]
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"device {name!r} cannot be used ({reason}); here are: {', '.join(there)}"
        ) from error
    return device
