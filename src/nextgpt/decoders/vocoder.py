"""Log-mels to sound without weights, in the place of a pipeline's vocoder."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from nextgpt.media.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, griffin_lim


class GriffinLim:
    """Griffin and Lim's algorithm behind the interface of ``SpeechT5HifiGan``.

    A small vocoder of convolutions answers a steady tone with what repeats itself from frame to
    frame, and hums at the frame rate; phases that fit the spectrum have no such tone of their own.
    """

    NUM_ITERATIONS = 32
    NUM_UPDATES = 100

    def __init__(self, config: Any) -> None:
        """Take the place of the vocoder with this ``config``.

        Raises:
            ValueError: it turns other log-mels into sound than `nextgpt.media.log_mel.log_mel`.
        """
        rate_hz, hop = config.sampling_rate, math.prod(config.upsample_rates)
        if (rate_hz, hop) != (SAMPLE_RATE_HZ, HOP_SAMPLES):
            raise ValueError(
                f"vocoder: griffin_lim takes {HOP_SAMPLES} samples a mel frame at "
                f"{SAMPLE_RATE_HZ} Hz, this pipeline makes {hop} at {rate_hz} Hz: "
                "set vocoder: pipeline"
            )
        self.config = config

    def __call__(self, log_mels: Tensor) -> Tensor:
        """Turn (B, frames, mels) log-mels into sounds, (B, frames * hop) float32."""
        return griffin_lim(log_mels.transpose(1, 2), self.NUM_ITERATIONS, self.NUM_UPDATES)
