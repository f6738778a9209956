"""What holds for sounds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nextgpt.decoders import AudioDecoder, Decoder


# 0.3 s is 15 mel frames that floating point makes 14; 0.5001 s is no whole number of frames.
@pytest.mark.parametrize("duration_s", [0.3, 0.5001, 1.2, 2.56])
def test_a_sound_lasts_as_long_as_asked_to_the_sample(
    directories: dict[str, Path], duration_s: float
) -> None:
    decoder = AudioDecoder(str(directories["audio"]), 1, duration_s=duration_s)
    (sound,) = decoder.decode(decoder.encode_text(["a dog"]), torch.Generator().manual_seed(0))
    assert sound.sample_rate_hz == 16_000
    assert sound.waveform.shape == (1, round(duration_s * 16_000))


def test_target_conditioning_has_unit_length(decoders: dict[str, Decoder]) -> None:
    target = decoders["audio"].encode_text(["a dog", "the sound of a violin"])
    torch.testing.assert_close(target.norm(dim=-1), torch.ones(2, 1))


def test_only_the_direction_of_conditioning_counts(decoders: dict[str, Decoder]) -> None:
    decoder = decoders["audio"]
    target = decoder.encode_text(["a dog"])
    sounds = [
        decoder.decode(scale * target, torch.Generator().manual_seed(0))[0].waveform
        for scale in (1.0, 8.0)
    ]
    # Measured 0 on CPU: the factor is a power of two.
    np.testing.assert_allclose(sounds[0], sounds[1], atol=1e-6)
