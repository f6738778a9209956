"""Log-mels: shape, range, and the place of a tone."""

from __future__ import annotations

import numpy as np
import torch
from torchaudio.transforms import MelSpectrogram

from nextgpt.evaluation.pitch import track_pitch
from nextgpt.media.log_mel import (
    HOP_SAMPLES,
    NUM_MELS,
    SAMPLE_RATE_HZ,
    audioldm_log_mel,
    griffin_lim,
    log_mel,
    mel_power,
)


def tone(frequency_hz: float, num_samples: int = 40_960) -> torch.Tensor:
    """A sine at half of full scale."""
    times = torch.arange(num_samples) / SAMPLE_RATE_HZ
    return 0.5 * torch.sin(2 * np.pi * frequency_hz * times)[None]


def test_a_sound_of_256_hundredths_has_128_frames_within_about_one() -> None:
    sounds = torch.cat([tone(440), torch.zeros(1, 40_960), torch.rand(1, 40_960) * 2 - 1])
    values = log_mel(sounds)
    assert values.shape == (3, NUM_MELS, 40_960 // HOP_SAMPLES)
    assert values.dtype == torch.float32
    # The lowest is that of silence, ln(1e-5) before scaling; the highest measured 1.44.
    assert float(values.min()) >= -0.9685 and float(values.max()) < 1.5
    assert torch.allclose(values[1], torch.tensor(-0.96737), atol=1e-4)


def test_higher_tones_lie_in_higher_bands() -> None:
    bands = [int(log_mel(tone(hz)).mean(-1).argmax()) for hz in (200, 400, 800, 1600, 3200, 6400)]
    assert bands == sorted(set(bands))


def test_power_is_what_the_logarithm_was_taken_of() -> None:
    values = log_mel(tone(500))
    assert torch.allclose(mel_power(values).log(), values * 8.8 - 3.0, atol=1e-4)


def test_griffin_lim_keeps_length_and_pitch() -> None:
    real = tone(500, 16_000)
    sound = griffin_lim(log_mel(real))
    assert sound.shape == real.shape
    peak = sound[0].numpy()
    frequency_hz = np.abs(np.fft.rfft(peak)).argmax() * 16_000 / len(peak)
    # The mel bands there are 60 Hz apart.
    assert abs(frequency_hz - 500) < 60


def test_a_nonnegative_spectrum_fits_the_mels_and_keeps_low_notes_apart() -> None:
    harmonics = [sum(tone(hz * k) / k for k in range(1, 6)) / 4 for hz in (131, 147, 165)]
    real = torch.cat(harmonics)
    mels = log_mel(real, 96)
    sounds = {updates: griffin_lim(mels, num_updates=updates) for updates in (0, 100)}
    pitches = [np.median(track_pitch(sound.numpy()).keys) for sound in sounds[100]]
    assert np.abs(np.array(pitches) - (48, 50, 52)).max() < 0.3
    distances = {k: (log_mel(sound, 96) - mels).abs().mean() for k, sound in sounds.items()}
    assert distances[100] < distances[0]


def test_a_sound_does_not_depend_on_the_others_of_its_batch() -> None:
    mels = log_mel(torch.cat([tone(300, 16_000), tone(500, 16_000)]))
    for updates in (0, 20):
        together = griffin_lim(mels, num_updates=updates)
        alone = griffin_lim(mels[1:], num_updates=updates)
        assert torch.equal(together[1:], alone)


def test_audioldms_mels_are_torchaudios_of_the_levelled_sound() -> None:
    sounds = torch.rand(2, 16_000, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.1
    reference = MelSpectrogram(
        SAMPLE_RATE_HZ,
        n_fft=1024,
        hop_length=160,
        n_mels=64,
        power=1.0,
        norm="slaney",
        mel_scale="slaney",
    )
    levelled = sounds - sounds.mean(dim=1, keepdim=True)
    levelled = levelled / levelled.abs().amax(dim=1, keepdim=True) / 2
    expected = reference(levelled)[..., :-1].clamp(min=1e-5).log()
    mels = audioldm_log_mel(sounds)
    assert mels.shape == (2, 64, 100)
    assert torch.allclose(mels, expected, atol=1e-3)


def test_audioldm_hears_silence_as_its_floor() -> None:
    assert torch.allclose(audioldm_log_mel(torch.zeros(1, 1600)), torch.tensor(1e-5).log())
