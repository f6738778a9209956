"""Three tiny decoders, built once and shared by the tests that do not change them."""

import shutil
from pathlib import Path

import pytest
from tiny_parts import tiny_audio_decoder, tiny_image_decoder, tiny_video_decoder

from nextgpt.decoders import AudioDecoder, Decoder, ImageDecoder, VideoDecoder

DECODERS: dict[str, type[Decoder]] = {
    "image": ImageDecoder,
    "video": VideoDecoder,
    "audio": AudioDecoder,
}


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A diffusers directory of each modality; never written to."""
    root = tmp_path_factory.mktemp("decoders")
    return {
        "image": tiny_image_decoder(root / "image"),
        "video": tiny_video_decoder(root / "video"),
        "audio": tiny_audio_decoder(root / "audio"),
    }


@pytest.fixture(scope="session")
def decoders(directories: dict[str, Path]) -> dict[str, Decoder]:
    """A decoder of each modality, loaded once for all tests."""
    return {
        name: decoder_class(str(directories[name]), num_inference_steps=2)
        for name, decoder_class in DECODERS.items()
    }


@pytest.fixture(params=list(DECODERS))
def name(request: pytest.FixtureRequest) -> str:
    """Each modality in turn."""
    return request.param


@pytest.fixture
def decoder(decoders: dict[str, Decoder], name: str) -> Decoder:
    """The shared decoder of each modality in turn."""
    return decoders[name]


@pytest.fixture
def directory(directories: dict[str, Path], name: str) -> Path:
    """The directory of each modality in turn; never written to."""
    return directories[name]


@pytest.fixture
def own_directory(directory: Path, tmp_path: Path) -> Path:
    """A copy of the directory that the test may change."""
    return Path(shutil.copytree(directory, tmp_path / "own"))
