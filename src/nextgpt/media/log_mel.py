"""Log-mel spectrograms: how encoders hear sounds and decoders make them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE_HZ = 16_000
NUM_FFT = 1024
HOP_SAMPLES = 320
NUM_MELS = 64

# Natural logarithms of power: silence is cut off at ln(1e-5) = -11.5, a loud band reaches about 6.
_FLOOR = 1e-5
_CENTRE, _SPREAD = -3.0, 8.8


def log_mel(waveforms: Tensor, num_mels: int = NUM_MELS) -> Tensor:
    """Compute log-mel spectrograms of sounds at SAMPLE_RATE_HZ.

    Args:
        waveforms: (B, T) float in -1..1.
        num_mels: Bands, from 0 to half the sample rate on the HTK mel scale.

    Returns:
        (B, num_mels, T // HOP_SAMPLES) float32: silence at -0.97, a pure tone of full scale at 1.6.
    """
    spectrum = torch.stft(
        waveforms.float(),
        NUM_FFT,
        HOP_SAMPLES,
        window=torch.hann_window(NUM_FFT, device=waveforms.device),
        return_complex=True,
    )[..., : waveforms.shape[-1] // HOP_SAMPLES]
    power = _filters(num_mels).to(waveforms.device) @ spectrum.abs().square()
    return (power.clamp(min=_FLOOR).log() - _CENTRE) / _SPREAD


def mel_power(log_mels: Tensor) -> Tensor:
    """Undo the logarithm and the scaling of ``log_mel``."""
    return (log_mels * _SPREAD + _CENTRE).exp()


def griffin_lim(log_mels: Tensor, num_iterations: int = 32) -> Tensor:
    """Turn (B, mels, frames) log-mels into sounds without a vocoder, by guessing the phases.

    Returns:
        (B, frames * HOP_SAMPLES) float32.
    """
    from torchaudio.transforms import GriffinLim, InverseMelScale

    to_linear = InverseMelScale(
        NUM_FFT // 2 + 1, NUM_MELS, SAMPLE_RATE_HZ, 0.0, SAMPLE_RATE_HZ / 2, driver="gelsd"
    )
    to_waveform = GriffinLim(NUM_FFT, num_iterations, hop_length=HOP_SAMPLES, power=2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sound = to_waveform(to_linear(mel_power(log_mels)).clamp_min(0))
    length = log_mels.shape[-1] * HOP_SAMPLES
    return functional.pad(sound, (0, max(0, length - sound.shape[-1])))[:, :length]


@cache
def _filters(num_mels: int) -> Tensor:
    """Triangular filters, (num_mels, NUM_FFT // 2 + 1)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(NUM_FFT // 2 + 1, num_mels, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ)
    return torch.from_numpy(filters.T).float()
