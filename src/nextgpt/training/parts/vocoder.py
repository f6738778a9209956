"""Trains the audio decoder's vocoder (``SpeechT5HifiGan``): log-mels back to sound."""

from pathlib import Path

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional

from nextgpt.media.log_mel import (
    DECODER_NUM_MELS,
    HOP_SAMPLES,
    NUM_FFT,
    SAMPLE_RATE_HZ,
    griffin_lim,
    log_mel,
)
from nextgpt.training.parts.saving import halve
from nextgpt.training.schedule import adamw_with_cosine

RESOLUTIONS = ((256, 64), (512, 128), (1024, 256), (2048, 512))
"""Window and hop, in samples, of the spectra compared."""
FLOOR = 1e-5
"""Power below which a spectrum counts as silent."""


def power_spectrum(waveforms: Tensor, num_fft: int, hop: int) -> Tensor:
    """Compute the power spectra of (B, T) sounds: (B, num_fft // 2 + 1, frames)."""
    window = torch.hann_window(num_fft, device=waveforms.device)
    spectrum = torch.stft(waveforms, num_fft, hop, window=window, return_complex=True)
    return spectrum.real.square() + spectrum.imag.square()


def multi_resolution_stft_loss(generated: Tensor, real: Tensor) -> Tensor:
    """Compare spectra of (B, T) sounds: spectral convergence and distance of log magnitudes.

    Source: arXiv:1910.11480.
    """
    losses = []
    for num_fft, hop in RESOLUTIONS:
        ours = power_spectrum(generated, num_fft, hop).clamp_min(FLOOR)
        theirs = power_spectrum(real, num_fft, hop).clamp_min(FLOOR)
        # Over the whole batch: a silent segment alone would divide by nearly nothing.
        convergence = (ours.sqrt() - theirs.sqrt()).norm() / theirs.sqrt().norm()
        losses.append(convergence + 0.5 * functional.l1_loss(ours.log(), theirs.log()))
    return torch.stack(losses).mean()


def log_spectral_distance_db(generated: Tensor, real: Tensor) -> Tensor:
    """Measure the distance of log power spectra of (B, T) sounds, in decibels: (B,).

    The root of the mean square over frequencies, averaged over frames.
    """
    ours, theirs = (
        10 * power_spectrum(sound, NUM_FFT, HOP_SAMPLES).clamp_min(FLOOR).log10()
        for sound in (generated, real)
    )
    return (ours - theirs).square().mean(dim=1).sqrt().mean(dim=1)


class VocoderRecipe(lightning.LightningModule):
    """Learns sounds from their log-mels, by spectra at several resolutions."""

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/audio/vocoder"),
        start_from: Path | None = None,
        width: int = 128,
        learning_rate: float = 1e-3,
        segment_s: float = 0.64,
        mel_noise: float = 0.01,
    ) -> None:
        """Build the vocoder.

        Args:
            output: Directory that the trained vocoder is written to.
            start_from: Directory of a vocoder to go on from; its sizes are then its own.
            width: Channels before the first upsampling; each halves them.
            learning_rate: Peak learning rate.
            segment_s: Seconds of every sound that a step is trained on.
            mel_noise: Standard deviation of the noise on the log-mels, which teaches to forgive the
                errors of generated ones.
        """
        super().__init__()
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        self.output = Path(output)
        self.learning_rate = learning_rate
        self.segment_samples = round(segment_s * SAMPLE_RATE_HZ) // HOP_SAMPLES * HOP_SAMPLES
        self.mel_noise = mel_noise
        if start_from is not None:
            self.vocoder = SpeechT5HifiGan.from_pretrained(start_from, dtype=torch.float32)
        else:
            config = SpeechT5HifiGanConfig(
                model_in_dim=DECODER_NUM_MELS,
                sampling_rate=SAMPLE_RATE_HZ,
                upsample_initial_channel=width,
                # Their product is the hop; the odd kernel keeps the length exact.
                upsample_rates=[8, 8, 5],
                upsample_kernel_sizes=[16, 16, 11],
                resblock_kernel_sizes=[3, 7],
                resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            )
            self.vocoder = SpeechT5HifiGan(config)
            for module in self.vocoder.modules():
                # NOTE: its own initialisation gives a sound of amplitude 1e-8 to begin with.
                if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                    module.reset_parameters()
            self.vocoder.mean.fill_(-0.3)
            self.vocoder.scale.fill_(0.5)

    def _segments(self, waveforms: Tensor) -> Tensor:
        """Cut one random segment out of every sound, (B, segment_samples)."""
        last = waveforms.shape[1] - self.segment_samples
        starts = torch.randint(0, last // HOP_SAMPLES + 1, (len(waveforms),)) * HOP_SAMPLES
        columns = starts[:, None] + torch.arange(self.segment_samples)
        return waveforms.gather(1, columns.to(waveforms.device)).float()

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Spectral losses on one segment of every sound; batch is [(B, samples) float16]."""
        real = self._segments(batch[0])
        log_mels = log_mel(real, DECODER_NUM_MELS).transpose(1, 2)
        generated = self.vocoder(log_mels + self.mel_noise * torch.randn_like(log_mels))
        loss = multi_resolution_stft_loss(generated, real)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the distance from the real sounds, beside that of Griffin-Lim."""
        real = batch[0].float()
        log_mels = log_mel(real, DECODER_NUM_MELS)
        ours = log_spectral_distance_db(self.vocoder(log_mels.transpose(1, 2)), real)
        theirs = log_spectral_distance_db(griffin_lim(log_mels), real)
        self.log("distance_db", ours.mean(), prog_bar=True, batch_size=len(real))
        self.log("griffin_lim_distance_db", theirs.mean(), batch_size=len(real))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_cosine(self.vocoder.parameters(), self.learning_rate, steps)

    def on_train_end(self) -> None:
        """Write the directory."""
        self.vocoder.save_pretrained(self.output)
        halve(self.output)
