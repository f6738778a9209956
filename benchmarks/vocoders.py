"""Turn log-mels into sounds in three ways, side by side: the shipped vocoder and Griffin-Lim.

First the log-mels of the world's own sounds, then those that the audio decoder makes of their
captions. The judge of ``nextgpt test`` names the instruments, its pitch tracker tells low from high
and rising from falling, and a sound whose median pitch is the frame rate counts as a hum.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from transformers import SpeechT5HifiGan

from nextgpt.data.conversations import medium_of, world_manifest
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.data.own_media import rendered
from nextgpt.decoders import AudioDecoder
from nextgpt.decoders.vocoder import GriffinLim
from nextgpt.evaluation.material import Material
from nextgpt.evaluation.pitch import track_pitch
from nextgpt.evaluation.rows.sounds import pitch_verdicts, waveform_of
from nextgpt.evaluation.sound_judge import SoundJudge
from nextgpt.media.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, griffin_lim, log_mel
from nextgpt.modality import Modality
from nextgpt.world.sounds import INSTRUMENTS, PITCHED

FRAME_RATE_KEY = 69 + 12 * np.log2(SAMPLE_RATE_HZ / HOP_SAMPLES / 440)


def held_out_sounds(number: int) -> list[Item]:
    """Single instruments of no training split."""
    items = [
        item
        for item in read_manifest(world_manifest())
        if item.modality == Modality.AUDIO
        and item.split in ("validation", "held_out_combination")
        and item.concept in INSTRUMENTS
        and item.attributes["second"] is None
    ]
    random.Random(0).shuffle(items)
    return items[:number]


def heard(judge: SoundJudge, items: list[Item], sounds: list[np.ndarray]) -> list[str]:
    """Cells of the table: hums, registers, contours and instruments, right and of how many."""
    hums: list[bool] = []
    registers: list[bool] = []
    contours: list[bool] = []
    for item, sound in zip(items, sounds, strict=True):
        if item.concept in PITCHED:
            keys = track_pitch(sound).keys
            hums.append(len(keys) > 0 and abs(np.median(keys) - FRAME_RATE_KEY) < 0.3)
            words = item.attributes["register"], item.attributes["contour"]
            for verdict in pitch_verdicts(item.concept, *words, sound):
                kind = registers if verdict.wanted == words[0] else contours
                kind.append(verdict.is_right)
    named = [
        name == item.concept for name, item in zip(judge.instruments_in(sounds), items, strict=True)
    ]
    return [f"{sum(right)} of {len(right)}" for right in (hums, registers, contours, named)]


def opened(items: list[Item]) -> list[np.ndarray]:
    """Waveforms of some items."""
    return [waveform_of(medium_of(item, world_manifest())) for item in items]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, default=Path("checkpoints/micro/audio"))
    parser.add_argument("--sounds", type=int, default=160)
    arguments = parser.parse_args()

    vocoder = SpeechT5HifiGan.from_pretrained(arguments.pipeline / "vocoder").eval()
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "vocoder": vocoder,
        "Griffin-Lim, least squares": lambda mels: griffin_lim(mels.transpose(1, 2)),
        "Griffin-Lim, nonnegative": GriffinLim(vocoder.config),
    }
    items = held_out_sounds(arguments.sounds)
    judge = Material.load().sound_judge
    table = Table(
        "log-mels of", "made sound by", "hums", "registers", "contours", "instruments", "s"
    )

    real = opened(items)
    table.add_row("", "(the world's own)", *heard(judge, items, real), "")
    mels = log_mel(torch.from_numpy(np.stack(real)), vocoder.config.model_in_dim).transpose(1, 2)
    for name, way in ways.items():
        started = time.perf_counter()
        with torch.inference_mode():
            sounds = [way(one)[0].numpy() for one in track(mels.split(1), name)]
        seconds = (time.perf_counter() - started) / len(sounds)
        table.add_row("sounds", name, *heard(judge, items, sounds), f"{seconds:.2f}")
    for choice in ("pipeline", "griffin_lim"):
        decoder = AudioDecoder(str(arguments.pipeline), 16, 3.0, solver="multistep", vocoder=choice)
        sounds = opened(rendered(items, decoder))
        table.add_row("captions", f"vocoder: {choice}", *heard(judge, items, sounds), "")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
