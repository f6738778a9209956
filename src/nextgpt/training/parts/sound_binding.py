"""Trains the audio side of micro-bind, tower and head: sounds into the space of sentences."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nextgpt.data.manifest import Item
from nextgpt.encoders.towers import AudioSide
from nextgpt.media.log_mel import NUM_MELS
from nextgpt.modality import Modality
from nextgpt.training.parts.binding import AddedSideRecipe, BindingData
from nextgpt.training.parts.media import load_log_mels
from nextgpt.training.parts.text_encoder import MINILM
from nextgpt.world.sounds import INSTRUMENTS, NOTE_COUNTS

MAX_SHIFT_BANDS = 3
MAX_ERASED_FRAMES, MAX_ERASED_BANDS = 24, 10


class SoundBindingData(BindingData):
    """Log-mels of the world's sounds with their sentences."""

    modality = Modality.AUDIO
    attributes = {
        "second": [None, *INSTRUMENTS],
        "count": [None, *NOTE_COUNTS],
        "register": [None, "low", "high"],
        "contour": [None, "rising", "falling"],
        "speed": [None, "fast", "slow"],
    }
    splits: tuple[str, ...] = ("train", "validation", "held_out_combination", "held_out_recording")

    def __init__(
        self,
        world: Path | None = None,
        sentences: str = MINILM,
        duration_s: float = 2.56,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            sentences: MiniLM's source.
            duration_s: Seconds of a sound; the side's window.
            batch_size: Sounds a step.
            seed: Seed of the order.
        """
        super().__init__(world, sentences, batch_size, seed)
        self.duration_s = duration_s

    def inputs(self, split: str, items: list[Item]) -> Tensor:
        """Compute log-mels: (N, mels, frames) float16."""
        log_mels = load_log_mels(items, self.world, self.duration_s, NUM_MELS)
        return log_mels[:, 0].transpose(1, 2)


class SoundBindingRecipe(AddedSideRecipe):
    """The audio side, trained on sounds as other rooms, players and recorders would have them."""

    def build_network(self, embed_dim: int) -> nn.Module:
        """Build the side."""
        self.side = AudioSide(embed_dim=embed_dim, **self.side_config)
        return OneWindow(self.side)

    def side_state(self) -> dict[str, Tensor]:
        """Return the side's weights."""
        return self.side.state_dict()

    def changed(self, inputs: Tensor) -> Tensor:
        """Tilt and shift the spectrum, change its level, add noise, erase a band and a moment."""
        sounds = inputs.float()
        count, bands, frames = sounds.shape
        tilt = torch.linspace(-1, 1, bands)[None, :, None] * 0.25 * torch.randn(count, 1, 1)
        bumps = nn.functional.interpolate(0.12 * torch.randn(count, 1, 8), bands, mode="linear")
        sounds = sounds + tilt + bumps.transpose(1, 2) + 0.12 * torch.randn(count, 1, 1)
        # Everything below the floor of the log-mel is silence.
        floor = torch.where(
            torch.rand(count, 1, 1) < 0.5, torch.rand(count, 1, 1) * 0.6 - 0.97, -0.97
        )
        sounds = torch.maximum(sounds, floor + 0.02 * torch.randn(sounds.shape))
        shift = int(torch.randint(-MAX_SHIFT_BANDS, MAX_SHIFT_BANDS + 1, ()))
        sounds = sounds.roll(shift, 1).roll(int(torch.randint(-8, 9, ())), 2)
        for axis, size, most in ((1, bands, MAX_ERASED_BANDS), (2, frames, MAX_ERASED_FRAMES)):
            width = int(torch.randint(0, most, ()))
            start = int(torch.randint(0, size - width, ()))
            sounds.narrow(axis, start, width).fill_(-0.97)
        return sounds


class OneWindow(nn.Module):
    """A side as it sees media of one window."""

    def __init__(self, side: AudioSide) -> None:
        super().__init__()
        self.side = side

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows (B, ...) to (B, embed_dim) vectors of length 1."""
        return self.side.vectors(self.side.summary(windows))
