"""The judge of generated sounds: says which of the world's instruments is heard.

It has heard nothing of what it judges: it learns from another soundfont than the model, changed in
many ways, and from formulas. It is trained on first use, in a few minutes, kept in the user's cache
and never shipped.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from nextgpt.evaluation import sound_models, sound_practice
from nextgpt.evaluation.judge import (
    BATCH_SIZE,
    LABEL_SMOOTHING,
    PractisingNetwork,
    load_or_train,
)
from nextgpt.evaluation.sound_practice import (
    INSTRUMENT_OF,
    NEPERS,
    NUM_PROGRAMS,
    PracticeSounds,
    varied,
)
from nextgpt.media.log_mel import log_mel
from nextgpt.sources import cache_dir
from nextgpt.world.debian import debian_file
from nextgpt.world.sounds import INSTRUMENTS
from nextgpt.world.sources import MEDIA_SOURCES
from nextgpt.world.synthesis import Soundfont

logger = logging.getLogger(__name__)

SOUNDFONT = "timgm6mb-soundfont"
NUM_SOUNDS = 12_000
NUM_STEPS = 1100
LEARNING_RATE = 3e-3
WIDTHS = (32, 64, 96, 128)
NUM_BANDS = 4
"""Bands of frequency left after the last layer."""
SEED = 0

LOUDEST = 80
"""Loudest bins of a spectrogram whose mean is its level."""
DEPTH = 9.0
"""Nepers below that level down to which the judge listens."""


class SoundJudgeNetwork(PractisingNetwork):
    """A small convolutional network that tells the programs of General MIDI apart.

    Args:
        num_steps: As in `PractisingNetwork`.
    """

    def __init__(self, num_steps: int = NUM_STEPS) -> None:
        super().__init__(num_steps)
        first, *others = WIDTHS
        layers = [nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False), *_activation(first)]
        for before, width in itertools.pairwise(WIDTHS):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), *_activation(width)]
            layers.append(nn.MaxPool2d((2, 1) if width == others[-1] else 2))
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(2 * NUM_BANDS * others[-1], NUM_PROGRAMS)
        self.eval()

    def forward(self, log_mels: Tensor) -> Tensor:
        """Map (B, 64, T) as ``log_mel`` scales them to (B, NUM_PROGRAMS) logits."""
        nepers = log_mels * NEPERS
        levels = nepers.flatten(1).topk(LOUDEST, dim=1).values.mean(dim=1)
        heard = (nepers - levels[:, None, None]).clamp(min=-DEPTH) / DEPTH + 0.5
        maps = self.layers(heard[:, None])
        # Bands stay apart, moments do not.
        pooled = torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1)
        return self.classifier(self.dropout(pooled.flatten(1)))

    def practise(self) -> None:
        """Let all of it learn."""
        self.train().requires_grad_(True)

    def varied(self, items: Tensor) -> Tensor:
        """Change (B, 64, T) float16 spectrograms as recordings, rooms and vocoders may."""
        return varied(items.float())

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """Let all of it learn alike."""
        return [(self, LEARNING_RATE)]


class SoundJudge:
    """Names the instrument that is heard in a sound."""

    def __init__(self, network: SoundJudgeNetwork) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, archives: Path | None = None) -> Self:
        """Return the judge in the user's cache; it is trained when it is not there.

        An interrupted training goes on where it was.

        Args:
            archives: Folder of packages fetched by hand, looked at before the registries.

        Raises:
            SourceError: its soundfont cannot be had.
        """
        network = SoundJudgeNetwork()

        def practice() -> PracticeSounds:
            logger.info("training the judge of sounds (once, about six minutes)")
            deb = MEDIA_SOURCES[SOUNDFONT].fetch(archives)
            return PracticeSounds(Soundfont(debian_file(deb, ".sf2")), NUM_SOUNDS, SEED)

        load_or_train(network, cache_dir() / "judge-sound" / recipe_hash(), practice)
        return cls(network)

    @torch.inference_mode()
    def instruments_in(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Name the likeliest instrument of each sound, (T,) float32 at the world's rate."""
        found: list[str] = []
        for start in range(0, len(waveforms), BATCH_SIZE):
            batch = torch.from_numpy(np.stack(waveforms[start : start + BATCH_SIZE]))
            programs = self.network(log_mel(batch)).softmax(dim=1)
            shares = torch.stack([programs[:, _programs(name)].sum(dim=1) for name in INSTRUMENTS])
            found += [INSTRUMENTS[index] for index in shares.argmax(dim=0).tolist()]
        return found


def _programs(instrument: str) -> list[int]:
    return [program for program, name in INSTRUMENT_OF.items() if name == instrument]


def _activation(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU()]


def recipe_hash() -> str:
    """Hash everything that decides what the trained judge is."""
    recipe = [
        *(NUM_SOUNDS, NUM_STEPS, BATCH_SIZE, LEARNING_RATE, LABEL_SMOOTHING, SEED, WIDTHS),
        *(LOUDEST, DEPTH, MEDIA_SOURCES[SOUNDFONT].sha256),
        *(inspect.getsource(module) for module in (sound_practice, sound_models)),
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
