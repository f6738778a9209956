"""How near a generated medium comes to the nearest one of its training set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from tqdm import tqdm

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item
from nextgpt.evaluation.results import Neighbour
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.media.base import atomic_path
from nextgpt.media.log_mel import log_mel
from nextgpt.sources import cache_dir
from nextgpt.world.synthesis import DURATION_S, SAMPLE_RATE_HZ

SIDE_PX = 32
FRAMES_TOGETHER = 4
"""Neighbouring frames of a spectrogram that are averaged."""
SILENCE = -0.97
"""What ``log_mel`` gives for silence."""
CHUNK = 2048


class Nearest:
    """The training media of one modality as small vectors of unit length, kept in the cache.

    Args:
        items: The training media.
        manifest: Theirs.
    """

    def __init__(self, items: Sequence[Item], manifest: Path) -> None:
        self.items, self.manifest = items, manifest
        digest = hashlib.sha256("\n".join(item.path for item in items).encode())
        digest.update(str(manifest.resolve()).encode())
        self.path = cache_dir() / "nearest" / f"{digest.hexdigest()[:16]}.npy"
        if not self.path.exists():
            media = (medium_of(item, manifest) for item in items)
            total = len(items)
            vectors = [vector_of(m) for m in tqdm(media, "training media, small", total, delay=2)]
            with atomic_path(self.path) as partial:
                np.save(partial, np.stack(vectors).astype(np.float16))

    def neighbours(self, media: Sequence[Medium]) -> list[Neighbour]:
        """Find the training medium most like each of some media.

        Their similarity is the correlation of the pixels of pictures and of clips' middle frames,
        and the cosine of the log-mel spectrograms of sounds.
        """
        if not media:
            return []
        wanted = np.stack([vector_of(medium) for medium in media])
        # NOTE: mapped, not read: the vectors of all training pictures are 110 MB.
        trained = np.load(self.path, mmap_mode="r")
        best, places = np.full(len(media), -2, np.float32), np.zeros(len(media), int)
        for start in range(0, len(trained), CHUNK):
            products = wanted @ trained[start : start + CHUNK].astype(np.float32).T
            found = products.argmax(axis=1)
            highest = products[np.arange(len(media)), found]
            places = np.where(highest > best, start + found, places)
            best = np.maximum(best, highest)
        return [
            Neighbour(medium_of(self.items[place], self.manifest), float(similarity))
            for place, similarity in zip(places, best, strict=True)
        ]


def vector_of(medium: Medium) -> np.ndarray:
    """Make a medium a vector of unit length, (D,) float32."""
    if isinstance(medium, Audio):
        waveform = torch.from_numpy(medium.windows(1, DURATION_S, SAMPLE_RATE_HZ))
        heard = log_mel(waveform)[0] - SILENCE
        length = heard.shape[1] - heard.shape[1] % FRAMES_TOGETHER
        together = heard[:, :length].reshape(len(heard), -1, FRAMES_TOGETHER).mean(dim=2)
        vector = together.flatten().numpy()
    else:
        picture = medium.pil if isinstance(medium, Image) else middle_frame(medium)
        small = picture.resize((SIDE_PX, SIDE_PX), PIL.Image.Resampling.BOX)
        vector = np.asarray(small, dtype=np.float32).ravel()
        vector = vector - vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def middle_frame(clip: Medium) -> PIL.Image.Image:
    """Return the frame in the middle of a clip."""
    assert isinstance(clip, Video), f"{clip.modality} has no frames"
    return PIL.Image.fromarray(clip.frames(1)[0])
