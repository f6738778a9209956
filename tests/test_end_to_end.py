"""Through the front door, at tiny random size and in all modalities: three stages, then answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_training import (
    RESUMED_AT,
    STAGES,
    STEPS,
    configuration,
    expected_statistics,
    expected_trainable,
    write_world,
)

from nextgpt import Conversation, NextGPT
from nextgpt.cli import main
from nextgpt.collate import collate
from nextgpt.media import load_medium
from nextgpt.memory import Memory

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture(scope="module")
def workplace(
    tiny: TinyParts, own_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with ``tiny.yaml``, in which the tests of this module work."""
    folder = tmp_path_factory.mktemp("end-to-end")
    manifest = write_world(folder / "world")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(configuration(tiny, manifest)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def trained(workplace: Path) -> Path:
    """The same folder after the three stages; ``runs/instruct/model`` is the result."""
    for stage in STAGES:
        assert main(["fit", "-c", "tiny.yaml", "--stage", stage]) == 0
    return workplace


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_exactly_its_parts(trained: Path, stage: str) -> None:
    expected: dict[str, list[int]] = {}
    for part in STAGES[stage]:
        expected |= expected_trainable()[part]
    found = record(trained / "runs" / stage)
    assert found["trainable"] == expected
    assert found["frozen"] > 0
    # Those of a medium that never has two runs in a batch stay: one run has no deviation.
    statistics = expected_statistics() if "output_projections" in STAGES[stage] else set()
    assert set(found["changed_although_frozen"]) <= statistics
    assert bool(found["changed_although_frozen"]) == bool(statistics)
    assert found["unchanged_although_trained"] == []
    assert found["without_gradient"] == []
    assert found["gradients_elsewhere"] == []
    assert found["signal_rows_without_gradient"] == []


def test_a_stage_hands_its_result_to_the_next(trained: Path) -> None:
    projections = {
        stage: load_file(trained / "runs" / stage / "model" / "projections.safetensors")
        for stage in STAGES
    }
    keys = {key for key in projections["encode_align"] if key.startswith("input_projection.")}
    assert len(keys) == 2
    for key in keys:
        first, second, third = (projections[stage][key] for stage in STAGES)
        assert torch.equal(first, second)
        assert not torch.equal(second, third)
    for before, after in (("encode_align", "decode_align"), ("decode_align", "instruct")):
        record = json.loads((trained / "runs" / after / "model" / "provenance.json").read_text())
        assert record["parent"] == f"runs/{before}/model"
        assert record["earlier"][-1]["stage_trained"] == STAGES[before]
    assert [each["parent"] for each in record["earlier"]] == [None, "runs/encode_align/model"]


def test_a_checkpoint_holds_what_was_trained_and_nothing_else(trained: Path) -> None:
    folder = trained / "runs" / "instruct" / "model"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files - {"adapter/README.md"} == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "config.yaml",
        "projections.safetensors",
        "provenance.json",
        "signal_rows.safetensors",
    }
    expected = expected_trainable()
    count = 0
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            count += len(list(tensors.keys()))
    assert count == sum(map(len, expected.values())) + len(expected_statistics())


def overridden(name: str, die_at: int | None, stage: str = "instruct") -> str:
    """Write a file that sends a stage to another folder; it may die on the way."""
    recorder = {
        "class_path": "recorder.Recorder",
        "init_args": {"folder": f"runs/{name}", "die_at": die_at},
    }
    saver = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {
            "dirpath": f"runs/{name}/steps",
            "filename": "{step}",
            "every_n_train_steps": RESUMED_AT,
            "save_top_k": -1,
        },
    }
    changed = {
        "model": {"init_args": {"output": f"runs/{name}/model"}},
        "trainer": {"default_root_dir": f"runs/{name}", "callbacks": [recorder, saver]},
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump({"stages": {stage: changed}}))
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def killed(trained: Path) -> str:
    """The checkpoint that an instruct run wrote before it died."""
    arguments = ["fit", "-c", "tiny.yaml", "-c", overridden("killed", RESUMED_AT + 1)]
    with pytest.raises(RuntimeError, match="killed by the test"):
        main([*arguments, "--stage", "instruct"])
    assert not Path("runs/killed/model").exists()
    return f"runs/killed/steps/step={RESUMED_AT}.ckpt"


def test_a_killed_run_resumes_on_the_same_loss_curve(trained: Path, killed: str) -> None:
    whole = record(trained / "runs" / "instruct")["losses"]
    assert list(whole) == [str(step) for step in range(1, STEPS + 1)]
    arguments = ["fit", "-c", "tiny.yaml", "-c", overridden("resumed", None)]
    assert main([*arguments, "--stage", "instruct", "--ckpt_path", killed]) == 0
    resumed = record(trained / "runs" / "resumed")["losses"]
    assert list(resumed) == [str(step) for step in range(RESUMED_AT + 1, STEPS + 1)]
    assert resumed == {step: whole[step] for step in resumed}  # bit for bit
    for name in ("projections", "signal_rows", "adapter/adapter_model"):
        ours = load_file(f"runs/resumed/model/{name}.safetensors")
        theirs = load_file(f"runs/instruct/model/{name}.safetensors")
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_output_projections_are_refined_behind_an_unchanged_language_model(trained: Path) -> None:
    stage = "decode_align"
    arguments = ["fit", "-c", "tiny.yaml", "-c", overridden("refined", None, stage)]
    choice = ["--model.init_args.trains", "[output_projections]"]
    parent = ["--model.init_args.start_from", "runs/instruct/model"]
    assert main([*arguments, "--stage", stage, *choice, *parent]) == 0
    before, after = (
        {
            (name, key): value
            for name in ("projections", "signal_rows", "adapter/adapter_model")
            for key, value in load_file(f"runs/{run}/model/{name}.safetensors").items()
        }
        for run in ("instruct", "refined")
    )
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.split(".")[0] for _, key in changed} == {"output_projections"}


def test_a_training_checkpoint_holds_only_what_trains(killed: str) -> None:
    state = torch.load(killed, weights_only=True)["state_dict"]
    parameters = {name for part in expected_trainable().values() for name in part}
    assert set(state) == parameters | expected_statistics()


def test_resuming_another_stage_is_refused_by_name(
    killed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "-c", "tiny.yaml", "--stage", "encode_align", "--ckpt_path", killed]
    assert main([*arguments, "--model.init_args.output", "runs/other/model"]) == 1
    assert "lora_A" in capsys.readouterr().err
    assert not Path("runs/other/model").exists()


def test_validate_reports_the_losses_of_every_medium(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "-c", "tiny.yaml", "--stage", "instruct"]) == 0
    output = capsys.readouterr().out
    for name in ("cross_entropy", "loss"):
        assert f"validation/{name}" in output


MEDIA = ["image", "audio", "video"]


def test_chat_answers_with_every_medium_as_one_json_object(
    trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", "runs/instruct/model", "--out", "replies", "--seed", "3", "--json"]
    question = ["--once", "Draw a dog.", "--modalities", ",".join(MEDIA)]
    assert main(["chat", *arguments, *question]) == 0
    reply = json.loads(capfd.readouterr().out)
    media = [part for part in reply["parts"] if part["type"] != "text"]
    assert sorted({part["type"] for part in media}) == sorted(MEDIA)
    for index, part in enumerate(media):
        assert part["seed"] == 3 + index
        assert load_medium(part["path"]).modality == part["type"]
        assert Path(part["path"]).parent == Path("replies")
    timings = reply["timings"]
    assert 0 < timings["first_token_s"] <= timings["text_s"] <= timings["total_s"]


@pytest.fixture(scope="module")
def model(trained: Path) -> NextGPT:
    return NextGPT.from_pretrained(trained / "runs" / "instruct" / "model")


def attachment(trained: Path, modality: str) -> Any:
    return load_medium(next((trained / "world").glob(f"{modality}-0.*")))


@pytest.mark.parametrize("modality", MEDIA)
def test_python_answers_a_medium_with_a_medium(
    trained: Path, model: NextGPT, modality: str
) -> None:
    question = ["What is this?", attachment(trained, modality)]
    options: dict[str, Any] = {"seed": 5, "modalities": [modality], "max_new_tokens": 8}
    reply = model.chat(question, **options)
    again = model.chat(question, **options)
    assert {medium.modality for medium in reply.media} == {modality}
    assert reply.text == again.text
    hashes = [[medium.content_hash() for medium in each.media] for each in (reply, again)]
    assert hashes[0] == hashes[1]
    paths = reply.save(trained / "saved" / modality)
    assert [load_medium(path).modality for path in paths[:-1]] == [modality] * (len(paths) - 1)


def test_a_forbidden_medium_never_appears(trained: Path, model: NextGPT) -> None:
    reply = model.chat("Draw a dog on a blue background.", modalities=[], max_new_tokens=40)
    assert reply.media == []


@pytest.mark.parametrize("modality", MEDIA)
def test_what_is_attached_changes_the_answer(trained: Path, model: NextGPT, modality: str) -> None:
    medium = attachment(trained, modality)
    features = Memory().features(model.model, medium.modality, [medium])
    plan = model.model.prompter.generation_plan(Conversation().user(medium, "What?"), 8)

    def state(values: torch.Tensor) -> torch.Tensor:
        batch = collate([plan], lambda *_: values)
        return model.model.language_model(model.model.assemble(batch).embeds)[0, -1]

    assert not torch.allclose(state(features), state(features + 1), atol=1e-4)


def test_predict_answers_a_file_of_requests(trained: Path) -> None:
    requests = [
        {"text": "Hello!"},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "audio", "path": "world/audio-0.wav"},
                    ],
                }
            ]
        },
    ]
    Path("requests.jsonl").write_text("".join(json.dumps(each) + "\n" for each in requests))
    where = ["--data.requests", "requests.jsonl", "--trainer.default_root_dir", "runs/predict"]
    assert main(["predict", "-c", "tiny.yaml", *where]) == 0
    replies = [
        json.loads(line)
        for line in Path("runs/predict/predictions/replies.jsonl").read_text().splitlines()
    ]
    assert [reply["line"] for reply in replies] == [1, 2]
    for reply in replies:
        assert reply["role"] == "assistant"
        for part in reply["content"]:
            if part["type"] != "text":
                load_medium(Path("runs/predict/predictions") / part["path"])


def test_a_request_that_cannot_be_used_is_named_by_its_line(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.jsonl").write_text('{"text": "Hello!"}\n{"messages": 3}\n')
    assert main(["predict", "-c", "tiny.yaml", "--data.requests", "bad.jsonl"]) == 1
    assert "bad.jsonl, line 2" in capsys.readouterr().err
