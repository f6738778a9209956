"""Bad input through the front door: one line that names the file or key, nothing half-written."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from bad_media import UNUSABLE, UNUSUAL, broken_index
from safetensors.torch import load_file, save_file

from nextgpt import checkpoint, configuration
from nextgpt.cli import main

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture(scope="module")
def model(tiny: TinyParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of tiny random parts, with an adapter."""
    chain = {
        "language_model": {
            "source": str(tiny.language_model),
            "max_length": 512,
            "lora": {"rank": 2, "target_modules": ["q_proj"]},
        },
        "encoder": {
            "class_path": "nextgpt.encoders.MicroBindEncoder",
            "init_args": {"source": str(tiny.encoder), "trunk": str(tiny.trunk)},
        },
        "output_projection": {
            "class_path": "nextgpt.projections.OutputProjection",
            "init_args": {
                "hidden_size": 16,
                "num_layers": 1,
                "num_heads": 2,
                "feedforward_size": 16,
            },
        },
        "num_signal_tokens": {"image": 2},
        "decoders": {
            "image": {
                "class_path": "nextgpt.decoders.ImageDecoder",
                "init_args": {"source": str(tiny.image), "num_inference_steps": 2},
            }
        },
    }
    built = configuration.build(chain)
    built.set_trainable(["lora", "input_projection", "output_projections", "signal_rows"])
    folder = tmp_path_factory.mktemp("models") / "model"
    checkpoint.save(built, folder, chain, {})
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail; return the line that says why."""
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    # Above it are the bars of transformers, which loads the model.
    *above, line = printed.err.splitlines()
    assert line.startswith(("error: ", "nextgpt: "))
    assert not [other for other in above if other.startswith(("error", "nextgpt"))]
    return line


# Media


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used_is_named(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = UNUSABLE[name](tmp_path)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    options = ["--model", str(model), "--attach", str(tmp_path / name), "--out", str(out)]
    for extra in ([], ["--json"]):
        line = refused(["chat", *options, "--once", "What is this?", *extra], capsys)
        assert str(tmp_path / name) in line
        assert ";" in line  # the trouble, then the remedy
    if name == "huge.bmp":
        assert "20000x20000" in line
    assert not out.exists()


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_file_is_taken_for_what_it_holds(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modality, write = UNUSUAL[name]
    options = ["--model", str(model), "--attach", str(write(tmp_path / name))]
    assert main(["chat", *options, "--modalities", "text", "--once", "What is this?"]) == 0
    printed = capsys.readouterr()
    assert f"attached {modality}" in printed.out
    assert "nextgpt>" in printed.out
    assert "error" not in printed.err


# Messages


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("word " * 2000, "shorten the message"),
        ("draw <image_0> now", "<image_0>"),
    ],
)
def test_a_message_that_cannot_be_used_says_why(
    text: str, named: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(model), "--out", str(tmp_path / "out")]
    assert named in refused(["chat", *options, "--once", text], capsys)
    assert not (tmp_path / "out").exists()


def test_the_chat_is_alive_after_every_mistake(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "broken.mp4").write_bytes(broken_index(tmp_path, b"moov", 0, b"lost"))
    mistakes = [
        f"/attach {tmp_path / 'empty.png'}",
        f"/attach {tmp_path / 'broken.mp4'}",
        "draw <image_0>",
        "word " * 2000,
        "/nonsense",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*mistakes, "Hello!"])))
    options = ["--model", str(model), "--out", str(tmp_path / "out"), "--json"]
    assert main(["chat", *options, "--modalities", "image"]) == 1
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert len(errors) == len(mistakes)
    reply = json.loads(printed.out)
    assert [part["type"] for part in reply["parts"]].count("image") == 1
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_history_that_is_too_long_is_shortened_visibly(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(["a " * 60] * 4)))
    options = ["--model", str(model), "--out", str(tmp_path / "out"), "--modalities", "text"]
    assert main(["chat", *options]) == 0
    assert "left out" in caplog.text


# Checkpoints


def with_key(file: Path, change: Callable[[dict], object]) -> None:
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


def other_base(folder: Path, key: str) -> None:
    record = json.loads((folder / "provenance.json").read_text())
    record["language_model"][key] += 1
    (folder / "provenance.json").write_text(json.dumps(record))


def edit_config(folder: Path, change: Callable[[dict], object]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    **{
        f"without {name}": (
            lambda folder, name=name: (folder / name).unlink(),
            [name, "copy the checkpoint directory again"],
        )
        for name in (
            "config.yaml",
            "projections.safetensors",
            "signal_rows.safetensors",
            "provenance.json",
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors",
        )
    },
    "cut weights": (
        lambda folder: (folder / "projections.safetensors").write_bytes(b"\0" * 30),
        ["projections.safetensors", "copy the checkpoint directory again"],
    ),
    "extra key": (
        lambda folder: with_key(
            folder / "projections.safetensors",
            lambda weights: weights.update(surplus=weights["input_projection.linear.bias"].clone()),
        ),
        ["projections.safetensors", "unexpected: surplus"],
    ),
    "missing key": (
        lambda folder: with_key(
            folder / "projections.safetensors",
            lambda weights: weights.pop("input_projection.linear.bias"),
        ),
        ["projections.safetensors", "missing: input_projection.linear.bias"],
    ),
    "another width": (
        lambda folder: other_base(folder, "hidden_size"),
        ["provenance.json", "hidden_size", "use the language model named in"],
    ),
    "another vocabulary": (
        lambda folder: other_base(folder, "vocabulary_size"),
        ["provenance.json", "vocabulary_size", "use the language model named in"],
    ),
    "unknown part key": (
        lambda folder: edit_config(
            folder, lambda config: config["chain"]["language_model"].update(max_lenght=3)
        ),
        ["max_lenght"],
    ),
    "another tree": (
        lambda folder: (folder / "config.yaml").write_text("- no mapping\n"),
        ["config.yaml", "`chain`"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_does_not_fit_is_refused_by_file_and_key(
    fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A neighbour of the original, so that relative sources hold.
    folder = model.parent / fault.replace(" ", "-").replace("/", "-")
    shutil.copytree(model, folder)
    damage, named = FAULTS[fault]
    damage(folder)
    options = ["--model", str(folder), "--out", str(tmp_path / "out")]
    line = refused(["chat", *options, "--once", "Hello!"], capsys)
    for words in named:
        assert words in line
    assert not (tmp_path / "out").exists()
