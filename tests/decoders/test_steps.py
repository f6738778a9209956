"""What decoders tell after each step: counts, previews, and errors on the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoding import decode_one, edit_json, seeded
from torch import Tensor

from nextgpt.decoders import Decoder
from nextgpt.decoders.loading import Solver
from nextgpt.media import Image, Video


@pytest.mark.parametrize("scheduler", ["PNDM", "HeunDiscrete"])
def test_on_step_counts_up_to_its_total(
    own_directory: Path, decoder: Decoder, scheduler: str
) -> None:
    edit_json(own_directory / "model_index.json", scheduler=["diffusers", f"{scheduler}Scheduler"])
    edit_json(own_directory / "scheduler" / "scheduler_config.json", rescale_betas_zero_snr=False)
    steps: list[tuple[int, int]] = []
    own = type(decoder)(str(own_directory), num_inference_steps=5)
    own.decode(
        own.encode_text(["a dog"]),
        seeded(0),
        on_step=lambda step, total, _: steps.append((step, total)),
    )
    total = steps[-1][1]
    assert total >= 5
    assert steps == [(step, total) for step in range(1, total + 1)]


def test_the_last_preview_is_the_medium_as_a_picture_and_earlier_ones_are_not(
    decoder: Decoder,
) -> None:
    seen = []
    (medium,) = decoder.decode(
        decoder.encode_text(["a dog"]),
        seeded(3),
        on_step=lambda *step: seen.append(np.asarray(decoder.preview(step[2]), dtype=float)),
    )
    assert not np.array_equal(seen[0], seen[-1])
    if isinstance(medium, Image):
        assert np.abs(seen[-1] - np.asarray(medium.pil)).max() <= 1
    elif isinstance(medium, Video):
        middle = medium.frames(medium.num_frames)[medium.num_frames // 2]
        assert np.abs(seen[-1] - middle).max() <= 1
    else:
        assert seen[-1].ndim == 2 and np.ptp(seen[-1]) == 255, "a grey spectrogram"


@pytest.mark.parametrize("solver", ["pipeline", "multistep"])
def test_previews_show_what_the_noise_was_taken_to_hide(
    directory: Path, decoder: Decoder, solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates, seen = [], []
    decoder = type(decoder)(str(directory), num_inference_steps=4, solver=solver)
    scheduler = type(decoder._loaded_pipeline().scheduler)
    step_of = scheduler.step

    def noted(self: Any, predicted: Tensor, timestep: Any, noisy: Tensor, **options: Any) -> Any:
        # v-prediction (arXiv:2202.00512): v = a e - s x, and the noisy latents are a x + s e.
        kept = self.alphas_cumprod[timestep]
        estimates.append(kept.sqrt() * noisy - (1 - kept).sqrt() * predicted)
        return step_of(self, predicted, timestep, noisy, **options)

    monkeypatch.setattr(scheduler, "step", noted)
    decoder.decode(
        decoder.encode_text(["a dog"]), seeded(3), on_step=lambda *step: seen.append(step[2])
    )
    assert len(seen) == len(estimates) == 4
    for found, estimate in zip(seen[1:], estimates[1:], strict=True):
        # The video pipeline takes frames one by one.
        frames = found.transpose(1, 2).flatten(0, 1) if found.ndim == 5 else found
        torch.testing.assert_close(frames, estimate, rtol=1e-3, atol=1e-3)


def test_an_error_in_on_step_ends_the_decoding_and_leaves_the_decoder_usable(
    decoder: Decoder,
) -> None:
    def cancel(step: int, total: int, _latents: torch.Tensor) -> None:
        raise InterruptedError(f"{step}/{total}")

    before = decode_one(decoder, "a dog", seed=7)
    with pytest.raises(InterruptedError, match="1/2"):
        decode_one(decoder, "a dog", seed=7, on_step=cancel)
    np.testing.assert_array_equal(decode_one(decoder, "a dog", seed=7), before)
