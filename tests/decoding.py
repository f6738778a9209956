"""What tests of decoders do again and again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextgpt.decoders import Decoder
from nextgpt.media import Image, Medium, Video


def seeded(*seeds: int) -> list[torch.Generator]:
    """One generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def values(medium: Medium) -> np.ndarray:
    """The samples of a medium as floats: 0..1, or -1..1 for sound."""
    if isinstance(medium, Image):
        return np.asarray(medium.pil, np.float32) / 255
    if isinstance(medium, Video):
        return medium.frames(medium.num_frames).astype(np.float32) / 255
    return medium.waveform


def decode_one(decoder: Decoder, caption: str, seed: int, **options: Any) -> np.ndarray:
    """The medium of one caption and seed, as values."""
    return values(decoder.decode(decoder.encode_text([caption]), seeded(seed), **options)[0])


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))
