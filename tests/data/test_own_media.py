"""Media that the chain's own decoders make of captions, and the conversations that show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from tiny_chain import tiny_chain

from nextgpt.data.manifest import Item, write_manifest
from nextgpt.data.own_media import OwnMedia
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

CAPTIONS = {
    "image": ("a dog", "a cat", "a red car"),
    "audio": ("a trumpet", "rain"),
    "video": ("a dog that runs", "a cat that spins"),
}


@pytest.fixture(scope="module")
def chain(tiny: TinyParts) -> NextGPTModel:
    return tiny_chain(tiny)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Captions of media that are never opened."""
    monkeypatch.setenv("NEXTGPT_CACHE", str(tmp_path / "cache"))
    items = [
        Item(f"{modality}-{number}", modality, "absent", caption, "dog", {}, "", "MIT", "train")
        for modality, captions in CAPTIONS.items()
        for number, caption in enumerate(captions)
    ]
    write_manifest(tmp_path / "manifest.jsonl", items)
    return tmp_path / "manifest.jsonl"


@pytest.mark.parametrize("modality", CAPTIONS)
def test_what_is_shown_was_made_of_the_caption_that_answers(
    chain: NextGPTModel, manifest: Path, modality: str
) -> None:
    source = OwnMedia(manifest, modalities=[modality])
    source.prepare(chain)
    answers = []
    for index in range(len(CAPTIONS[modality])):
        question, answer = source.conversation(index).messages
        [medium] = question.media
        assert medium.modality == modality
        medium.check()
        answers.append(answer.text)
        assert medium.caption == answer.text
    assert sorted(answers) == sorted(CAPTIONS[modality])
    assert len({medium.content_hash() for medium in source.media()}) == len(answers)


def test_media_are_made_once_and_an_interrupted_rendering_goes_on(
    chain: NextGPTModel, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = OwnMedia(manifest, modalities=["image"])
    first.prepare(chain)
    paths = [Path(item.path) for item in first.items]
    hashes = [medium.content_hash() for medium in first.media()]
    pixels = np.asarray(PIL.Image.open(paths[1])).astype(int)
    paths[1].unlink()
    made = []
    decoder = chain.decoders["image"]
    encode_text = decoder.encode_text
    monkeypatch.setattr(
        decoder, "encode_text", lambda captions: made.extend(captions) or encode_text(captions)
    )
    again = OwnMedia(manifest, modalities=["image"])
    again.prepare(chain)
    assert [caption for caption in made if caption] == [first.items[1].caption]
    again_hashes = [medium.content_hash() for medium in again.media()]
    assert [again_hashes[0], *again_hashes[2:]] == [hashes[0], *hashes[2:]]
    # Alone it is computed with other rounding than among others, on some processors.
    assert abs(np.asarray(PIL.Image.open(paths[1])).astype(int) - pixels).max() <= 2


def test_another_seed_makes_other_media(chain: NextGPTModel, manifest: Path) -> None:
    hashes = set()
    for seed in (0, 100):
        source = OwnMedia(manifest, modalities=["image"], seed=seed)
        source.prepare(chain)
        hashes |= {medium.content_hash() for medium in source.media()}
    assert len(hashes) == 2 * len(CAPTIONS["image"])
