"""Log-mel spectrograms: how encoders hear sounds and decoders make them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE_HZ = 16_000
NUM_FFT = 1024
HOP_SAMPLES = 320
AUDIOLDM_HOP_SAMPLES = 160
NUM_MELS = 64
DECODER_NUM_MELS = 96
"""Bands of the log-mels that sounds are made from: fewer do not hold the pitch of low notes."""

# Natural logarithms of power: silence is cut off at ln(1e-5) = -11.5, a loud band reaches about 6.
_FLOOR = 1e-5
_CENTRE, _SPREAD = -3.0, 8.8
_TINY = 1e-8


def log_mel(waveforms: Tensor, num_mels: int = NUM_MELS) -> Tensor:
    """Compute log-mel spectrograms of sounds at SAMPLE_RATE_HZ.

    Args:
        waveforms: (B, T) float in -1..1.
        num_mels: Bands, from 0 to half the sample rate on the HTK mel scale.

    Returns:
        (B, num_mels, T // HOP_SAMPLES) float32: silence at -0.97, a pure tone of full scale at 1.6.
    """
    power = _filters(num_mels).to(waveforms.device) @ _magnitudes(waveforms, HOP_SAMPLES).square()
    return (power.clamp(min=_FLOOR).log() - _CENTRE) / _SPREAD


def audioldm_log_mel(waveforms: Tensor, num_mels: int = NUM_MELS) -> Tensor:
    """Compute log-mel spectrograms as the published AudioLDM was trained on.

    Sounds are brought to a mean of 0 and a peak of 0.5; bands are of magnitudes, on Slaney's scale
    and of equal area.

    Args:
        waveforms: (B, T) float at SAMPLE_RATE_HZ.
        num_mels: Bands, 64 in the published models.

    Returns:
        (B, num_mels, T // 160) float32: silence at ln(1e-5) = -11.5.

    Source: arXiv:2301.12503, section 4 and appendix.
    """
    centred = waveforms - waveforms.mean(dim=-1, keepdim=True)
    levelled = 0.5 * centred / (centred.abs().amax(dim=-1, keepdim=True) + 1e-8)
    filters = _filters(num_mels, "slaney", "slaney").to(waveforms.device)
    return (filters @ _magnitudes(levelled, AUDIOLDM_HOP_SAMPLES)).clamp(min=_FLOOR).log()


LOG_MELS = {
    (SAMPLE_RATE_HZ, HOP_SAMPLES): log_mel,
    (SAMPLE_RATE_HZ, AUDIOLDM_HOP_SAMPLES): audioldm_log_mel,
}
"""How sounds become mels, by sample rate and hop of the vocoder that turns them back."""


def mel_power(log_mels: Tensor) -> Tensor:
    """Undo the logarithm and the scaling of ``log_mel``."""
    return (log_mels * _SPREAD + _CENTRE).exp()


def griffin_lim(log_mels: Tensor, num_iterations: int = 32, num_updates: int = 0) -> Tensor:
    """Turn (B, mels, frames) log-mels into sounds without a vocoder, by guessing the phases.

    Args:
        log_mels: As `log_mel` makes them.
        num_iterations: Of Griffin and Lim's algorithm, for the phases.
        num_updates: Of Lee and Seung's multiplicative rule, which finds a spectrum that has these
            mels. Without any it is the least-squares one with its negative part cut off, in which
            low notes blur.

    Returns:
        (B, frames * HOP_SAMPLES) float32; a sound does not depend on the others of its batch.
    """
    from torchaudio.transforms import GriffinLim

    to_waveform = GriffinLim(NUM_FFT, num_iterations, hop_length=HOP_SAMPLES, power=2.0)
    sounds = []
    # One by one: a rounding of another batch size would grow from iteration to iteration.
    for mels in mel_power(log_mels.float()).split(1):
        power = _nonnegative(mels, num_updates) if num_updates else _least_squares(mels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sounds.append(to_waveform.to(power.device)(power))
    length = log_mels.shape[-1] * HOP_SAMPLES
    sound = torch.cat(sounds)
    return functional.pad(sound, (0, max(0, length - sound.shape[-1])))[:, :length]


def _least_squares(mels: Tensor) -> Tensor:
    """Power spectra (B, NUM_FFT // 2 + 1, frames) nearest to (B, mels, frames), cut off at 0."""
    from torchaudio.transforms import InverseMelScale

    to_linear = InverseMelScale(
        NUM_FFT // 2 + 1, mels.shape[1], SAMPLE_RATE_HZ, 0.0, SAMPLE_RATE_HZ / 2, driver="gelsd"
    )
    return to_linear(mels).clamp_min(0)


def _nonnegative(mels: Tensor, num_updates: int) -> Tensor:
    """Power spectra (B, NUM_FFT // 2 + 1, frames) with the mels (B, mels, frames).

    The rule of Lee and Seung, "Algorithms for Non-negative Matrix Factorization" (2001), for the
    squared error with the filters held fixed.
    """
    filters = _filters(mels.shape[1]).to(mels.device)
    overlaps, wanted = filters.T @ filters, filters.T @ mels
    power = wanted / overlaps.sum(dim=1, keepdim=True).clamp_min(_TINY)
    for _ in range(num_updates):
        power = power * wanted / (overlaps @ power).clamp_min(_TINY)
    return power


def _magnitudes(waveforms: Tensor, hop_samples: int) -> Tensor:
    """Magnitudes of the spectrum, (B, NUM_FFT // 2 + 1, T // hop_samples)."""
    window = torch.hann_window(NUM_FFT, device=waveforms.device)
    spectrum = torch.stft(
        waveforms.float(), NUM_FFT, hop_samples, window=window, return_complex=True
    )
    return spectrum[..., : waveforms.shape[-1] // hop_samples].abs()


@cache
def _filters(num_mels: int, scale: str = "htk", norm: str | None = None) -> Tensor:
    """Triangular filters, (num_mels, NUM_FFT // 2 + 1)."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        NUM_FFT // 2 + 1, num_mels, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ, norm, scale
    )
    return torch.from_numpy(filters.T).float()
