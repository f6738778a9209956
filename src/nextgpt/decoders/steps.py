"""What a decoder tells after each denoising step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

OnStep = Callable[[int, int, Tensor], None]
"""Called after each denoising step with steps done, steps in all and the latents; the last call has
the first two equal. Latents of DDIM and of multistep schedulers come without their noise. An
exception raised in it ends the decoding and reaches the caller."""


def denoised(on_step: OnStep, scheduler: Any) -> OnStep:
    """Hand latents on without their noise.

    A multistep scheduler keeps its estimates. What DDIM took for the medium follows from its step
    (arXiv:2010.02502, eq. 12): both ends, ``a x + s e`` with known ``a`` and ``s``, hold the same
    estimates of the medium ``x`` and the noise ``e``.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    before: Tensor | None = None

    def told(step: int, total: int, latents: Tensor) -> None:
        nonlocal before
        clean, start, before = latents, before, latents
        if isinstance(scheduler, DPMSolverMultistepScheduler):
            clean = scheduler.model_outputs[-1]
            if latents.ndim == 5:  # of a clip, whose frames the pipeline hands over one by one
                clean = clean.unflatten(0, (len(latents), -1)).transpose(1, 2)
        elif start is not None and isinstance(scheduler, DDIMScheduler):
            time = int(scheduler.timesteps[step - 1])
            later = time - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
            kept = scheduler.alphas_cumprod
            kept_before = kept[time]
            kept_after = kept[later] if later >= 0 else scheduler.final_alpha_cumprod
            a, s = kept_before.sqrt(), (1 - kept_before).sqrt()
            b, r = kept_after.sqrt(), (1 - kept_after).sqrt()
            clean = (r * start - s * latents) / (r * a - s * b)
        on_step(step, total, clean)

    return told


class StepCounter:
    """Adapts an `OnStep` to the old ``callback`` argument, called once a step."""

    def __init__(self, on_step: OnStep, num_inference_steps: int) -> None:
        self.on_step = on_step
        self.total = num_inference_steps
        self.done = 0

    def __call__(self, _step: int, _timestep: Any, latents: Tensor) -> None:
        """Report one more step."""
        # NOTE: counts calls, because the step index that diffusers passes starts at 0 or at 1,
        # depending on the scheduler.
        self.done += 1
        self.on_step(self.done, self.total, latents)
