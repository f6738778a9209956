"""``nextgpt doctor`` through the front door, on the shipped configurations."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from tiny_training import STAGES, configuration, write_world

from nextgpt.cli import main
from nextgpt.configuration import build, options_of
from nextgpt.doctor.examination import Examination
from nextgpt.training.doctor import plans_of

if TYPE_CHECKING:
    from conftest import TinyParts

CONFIGS = Path(__file__).parents[2] / "configs"
SYSTEMS = sorted(file.stem for file in (CONFIGS / "bridges" / "micro").glob("*.yaml"))


@pytest.fixture
def tiny_config(tiny: TinyParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All three stages of tiny parts, whose world is here."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    config = configuration(tiny, write_world(tmp_path / "world"))
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_stages_that_would_start_are_described_with_exit_code_0(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor", "-c", str(tiny_config), "--length", "32"]) == 0
    printed = capsys.readouterr().out
    for words in (*STAGES, "6 x 32 tokens", "8 x 32", "licence", "no problems"):
        assert words in printed
    assert not list(Path().rglob("runs/*"))


def test_a_stage_whose_parent_is_missing_has_exit_code_1(
    tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "-c", str(tiny_config), "--stage", "instruct"]) == 1
    assert "runs/decode_align/model is missing" in " ".join(capsys.readouterr().out.split())


def test_a_stage_of_a_part_is_not_examined_but_what_it_writes_is_known(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = yaml.safe_load(tiny_config.read_text())
    config["about"] = {"system": "a tiny BLIP-2"}
    options = config["model"]["init_args"]
    sizes = {"num_queries": 2, "hidden_size": 8, "num_layers": 2, "num_heads": 2}
    options["chain"]["connector"] = {
        "class_path": "nextgpt.bridges.QFormerConnector",
        "init_args": {**sizes, "intermediate_size": 8, "source": "runs/queries"},
    }
    first = {
        "model": {
            "class_path": "nextgpt.training.qformer_stage.QFormerStage",
            "init_args": {"encoder": options["chain"]["encoder"], "output": "runs/queries"},
        },
        "data": {
            "class_path": "nextgpt.training.qformer_data.PairData",
            "init_args": {"train": config["stages"]["encode_align"]["data"]["init_args"]["train"]},
        },
    }
    config["stages"] = {"queries": first, "encode_align": config["stages"]["encode_align"]}
    tiny_config.write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["doctor", "-c", str(tiny_config), "--length", "32"]) == 0
    printed = capsys.readouterr().out
    assert "note: stage queries trains a part and is not examined" in printed
    assert main(["doctor", "-c", str(tiny_config), "--stage", "encode_align"]) == 1
    assert "runs/queries" in capsys.readouterr().out
    assert main(["doctor", "-c", str(tiny_config), "--stage", "queries"]) == 1
    assert "trains a part" in capsys.readouterr().err


def test_fit_is_refused_before_any_weights_are_read(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", pytest.fail)
    config = yaml.safe_load(tiny_config.read_text())
    chain = config["model"]["init_args"]["chain"]
    chain["decoders"]["image"]["init_args"]["expected_shape"] = [8, 768]
    tiny_config.write_text(yaml.safe_dump(config))
    assert main(["fit", "-c", str(tiny_config), "--stage", "encode_align"]) == 1
    told = capsys.readouterr().err
    assert "(8, 32)" in told and "(8, 768)" in told and told.count("\n") == 1


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_bridge_on_the_micro_model_lacks_nothing_but_data_and_the_stage_before(
    name: str,
) -> None:
    plans = plans_of([CONFIGS / "bridges" / "micro" / f"{name}.yaml"], ["encode_align"])
    report = Examination(plans, ask_hub=False).check()
    assert all(seam.fits for seam in report.seams) and len(report.seams) >= 4
    expected = re.compile(r"manifest\.jsonl is missing|represent/model")
    assert [problem for problem in report.problems if not expected.search(problem)] == []


def test_the_paper_scale_trains_the_parameters_of_the_paper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("imagebind") is None:
        pytest.skip("needs the extra [imagebind]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = Examination(plans_of([CONFIGS / "nextgpt-7b.yaml"], length=64)).measure()
    first, second, third = report.stages
    projections = {
        "output_projections.image": 31_958_784,
        "output_projections.video": 32_090_112,
        "output_projections.audio": 31_788_544,
    }
    rows = {"signal_rows": 36 * 4096 * 2}
    assert first.trained == {"input_projection": 4_198_400}
    assert second.trained == projections | rows
    assert third.trained == first.trained | projections | rows | {"lora": 33_554_432}
    assert {part.name: part.num_parameters for part in report.parts} == {
        "language model": 6_738_415_616,
        "encoder": 719_065_088,
        "image decoder": 859_520_964 + 83_653_863 + 123_060_480 + 303_981_588,
        "audio decoder": 739_139_080 + 55_376_873 + 125_302_016 + 55_264_897,
        "video decoder": 1_411_233_860 + 83_653_863 + 340_387_840,
    }
    assert [seam.gives for seam in report.seams] == [(1, 4096)] * 3 + [
        (77, 768),
        (1, 512),
        (77, 1024),
    ]
    assert all(seam.fits for seam in report.seams)
    assert {part.name for part in report.parts if part.licence.commercial == "no"} == {
        "encoder",
        "audio decoder",
        "video decoder",
    }
    assert any("data/7b/pairs.jsonl" in problem for problem in report.problems)


def test_the_second_version_trains_the_parameters_of_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("imagebind") is None:
        pytest.skip("needs the extra [imagebind]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plans = plans_of([CONFIGS / "nextgpt-7b-v2.yaml"], length=64)
    report = Examination(plans, ask_hub=False).check()
    assert [(plan.denoises, plan.checkpointing) for plan in plans] == [
        (False, True),
        (True, True),
        (True, True),
    ]
    chain = plans[0].chain
    assert options_of(chain)["num_signal_tokens"] == {"image": 4, "audio": 8, "video": 24}
    assert [seam.gives for seam in report.seams] == [(8, 4096)] * 3 + [
        (77, 1024),
        (1, 512),
        (77, 1024),
    ]
    assert all(seam.fits for seam in report.seams)
    # Rank 128 on q, k, v, o, on gate and up, and on down, of 32 layers.
    wide = 4096 + 11008
    lora = 32 * 128 * (4 * 2 * 4096 + 3 * wide)
    with torch.device("meta"):
        built = build(chain)
        built.set_trainable(["lora"])
    parts = {
        name: sum(p.numel() for p in parameters.values())
        for name, parameters in built.trainable_parts().items()
    }
    assert parts["lora"] == lora
    assert parts["input_projection"] == 53_138_768
    assert parts["output_projections"] == 2 * 32_090_112 + 31_788_544
    assert parts["signal_rows"] == 36 * 4096 * 2
    assert any("data/7b/dialogues.jsonl" in problem for problem in report.problems)
    # What is wrong is only what is missing.
    assert all("is missing" in problem for problem in report.problems)


def test_the_micro_model_is_examined_without_its_weights(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Examination(plans_of([CONFIGS / "micro.yaml"], length=64)).measure()
    states = {part.name: part.state for part in report.parts}
    assert states["language model"] == "to fetch" and states["image decoder"] == "here"
    assert [stage.name for stage in report.stages] == [
        "encode_align",
        "decode_align",
        "instruct",
        "decode_refine",
        "encode_refine",
    ]
    (problem,) = report.problems
    assert "manifest.jsonl" in problem


def test_a_recipe_of_a_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-c", str(CONFIGS / "parts" / "vocoder.yaml")]) == 1
    assert "trains a part" in capsys.readouterr().err
