"""The doctor names what would keep a run from starting, and only that."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_chain import tiny_chain, tiny_chain_config
from tiny_parts import tiny_image_decoder

from nextgpt import checkpoint
from nextgpt.doctor.examination import Examination, StagePlan
from nextgpt.doctor.report import Report

if TYPE_CHECKING:
    from conftest import TinyParts

TRAINS = ["lora", "input_projection", "output_projections", "signal_rows"]


@pytest.fixture
def plan(tiny: TinyParts) -> StagePlan:
    return StagePlan("first", tiny_chain_config(tiny), TRAINS, batch_size=2)


def checked(*plans: StagePlan) -> Report:
    return Examination(plans, ask_hub=False).check()


def test_a_chain_that_is_whole_has_no_problems(plan: StagePlan) -> None:
    report = Examination([plan], ask_hub=False).measure()
    assert not report.problems
    assert [part.state for part in report.parts] == ["here"] * 5
    assert len(report.seams) == 6 and all(seam.fits for seam in report.seams)
    (stage,) = report.stages
    assert stage.trained == {
        "input_projection": 544,
        "signal_rows": 288,
        "output_projections.image": stage.trained["output_projections.image"],
        "output_projections.audio": stage.trained["output_projections.audio"],
        "output_projections.video": stage.trained["output_projections.video"],
        "lora": 1024,
    }


def test_what_it_counts_is_what_a_chain_with_weights_has(plan: StagePlan, tiny: TinyParts) -> None:
    (stage,) = Examination([plan], ask_hub=False).measure().stages
    real = tiny_chain(tiny)
    real.set_trainable(TRAINS)
    assert sum(stage.trained.values()) == sum(
        p.numel() for p in real.parameters() if p.requires_grad
    )


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_weights_are_counted_and_what_they_lack_here_is_noted(
    plan: StagePlan, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    whole = Examination([plan], ask_hub=False).measure()
    config = plan.chain | {"language_model": plan.chain["language_model"] | {"quantization": kind}}
    report = Examination([replace(plan, chain=config)], ask_hub=False).measure()
    assert not report.problems
    assert any(f"quantization {kind} needs" in note for note in report.notes)
    saved = whole.parts[0].num_bytes - report.parts[0].num_bytes
    assert saved > 0 and report.parts[0].num_parameters == whole.parts[0].num_parameters
    assert whole.stages[0].memory.weights - report.stages[0].memory.weights == saved


def test_an_unknown_quantization_is_a_problem(plan: StagePlan) -> None:
    plan.chain["language_model"]["quantization"] = "3bit"
    (problem,) = checked(plan).problems
    assert "3bit" in problem and "8bit" in problem and "4bit" in problem


def test_an_expected_width_that_is_not_the_decoders_is_refused_with_both(plan: StagePlan) -> None:
    image = plan.chain["decoders"]["image"]["init_args"]
    image["expected_shape"] = [8, 768]
    (problem,) = checked(plan).problems
    assert "(8, 32)" in problem and "(8, 768)" in problem and image["source"] in problem


def test_a_text_encoder_of_another_width_than_the_unet_is_refused_with_both(
    plan: StagePlan, tiny: TinyParts, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(tiny.image, mixed)
    other = tiny_image_decoder(tmp_path / "other", width=48)
    shutil.rmtree(mixed / "text_encoder")
    shutil.copytree(other / "text_encoder", mixed / "text_encoder")
    plan.chain["decoders"]["image"]["init_args"]["source"] = str(mixed)
    (problem,) = checked(plan).problems
    assert "48 wide" in problem and "takes 32" in problem and str(mixed) in problem


def test_a_projection_of_another_width_than_the_decoder_is_refused_with_both(
    plan: StagePlan,
) -> None:
    plan.chain["output_projection"]["class_path"] = "wrong_projection.TooWide"
    (problem, *_) = checked(plan).problems
    assert "(8, 33)" in problem and "(8, 32)" in problem


def test_a_checkpoint_of_another_width_is_refused_by_key_and_both(
    plan: StagePlan, tiny: TinyParts, tmp_path: Path
) -> None:
    chain = tiny_chain(tiny)
    checkpoint.save(chain, tmp_path / "trained", plan.chain, {})
    plan.start_from = tmp_path / "trained"
    assert not checked(plan).problems
    wider = tiny_image_decoder(tmp_path / "wider", width=48)
    plan.chain["decoders"]["image"]["init_args"]["source"] = str(wider)
    (problem,) = checked(plan).problems
    assert "output_projections.image.output.weight (32, 16) instead of (48, 16)" in problem


def test_what_an_earlier_stage_writes_is_not_missing(plan: StagePlan, tmp_path: Path) -> None:
    first = replace(plan, output=tmp_path / "handed over")
    second = replace(plan, name="second", start_from=tmp_path / "handed over")
    assert not checked(first, second).problems
    (problem,) = checked(second).problems
    assert str(tmp_path / "handed over") in problem and "second" in problem


def absent(plan: StagePlan, tmp_path: Path) -> str:
    source = str(tmp_path / "nowhere")
    plan.chain["decoders"]["audio"]["init_args"]["source"] = source
    return source


def weightless(plan: StagePlan, tmp_path: Path) -> str:
    image = plan.chain["decoders"]["image"]["init_args"]
    shutil.copytree(image["source"], tmp_path / "image")
    image["source"] = str(tmp_path / "image")
    (tmp_path / "image" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    return str(tmp_path / "image" / "unet")


def without_data(plan: StagePlan, tmp_path: Path) -> str:
    plan.files = [tmp_path / "manifest.jsonl"]
    return str(plan.files[0])


def unknown_part(plan: StagePlan, tmp_path: Path) -> str:
    plan.trains = ["brain"]
    return "brain"


def too_large_a_tokenizer(plan: StagePlan, tmp_path: Path) -> str:
    folder = tmp_path / "language_model"
    shutil.copytree(plan.chain["language_model"]["source"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 290}))
    plan.chain["language_model"]["source"] = str(folder)
    return "290"


@pytest.mark.parametrize(
    "spoil", [absent, weightless, without_data, unknown_part, too_large_a_tokenizer]
)
def test_what_is_missing_or_wrong_is_named(plan: StagePlan, tmp_path: Path, spoil: Any) -> None:
    named = spoil(plan, tmp_path)
    report = checked(plan)
    assert any(named in problem for problem in report.problems)
