"""What all tests share: threads, a cache of their own on request, and the tiny parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Tiny tensors gain nothing from many threads and lose much where tests run beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402


@dataclass(frozen=True)
class TinyParts:
    """Folders of tiny random parts in the real formats; never written to."""

    language_model: Path
    encoder: Path
    trunk: Path
    image: Path
    audio: Path
    video: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyParts:
    """All tiny parts, built once."""
    import tiny_parts
    from tiny_encoder import tiny_encoder

    root = tmp_path_factory.mktemp("tiny")
    encoder, trunk = tiny_encoder(root)
    return TinyParts(
        tiny_parts.tiny_language_model(root / "language_model"),
        encoder,
        trunk,
        tiny_parts.tiny_image_decoder(root / "image"),
        tiny_parts.tiny_audio_decoder(root / "audio"),
        tiny_parts.tiny_video_decoder(root / "video"),
    )


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache of nextgpt for the tests of one module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("NEXTGPT_CACHE", str(folder))
        yield folder
