"""The command line answers mistakes in one line that names the value and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextgpt.cli import TRAINING_WORDS, USAGE, main

MICRO = Path(__file__).parent.parent / "configs" / "micro.yaml"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == USAGE
    for word in (*TRAINING_WORDS, "chat", "world", "convert", "merge"):
        assert f"\n  {word} " in USAGE


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chatt"]) == 2
    captured = capsys.readouterr()
    assert "'chatt'" in captured.out + captured.err


@pytest.mark.parametrize("command", ["chat", "world", "convert", "convert checkpoint", "merge"])
def test_a_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert not ended.value.code
    assert f"nextgpt {command}" in capsys.readouterr().out


def test_chat_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chat", "--help"])
    text = capsys.readouterr().out
    for option in ("model", "attach", "once", "out", "seed", "modalities", "json"):
        assert f"--{option}" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fit", "-c", "missing.yaml"], "missing.yaml"),
        (["fit", "-c", str(MICRO), "--stage", "instrukt"], "decode_align, instruct"),
        (["fit", "-c"], "-c needs a value"),
        (["chat", "--model", "no/such/model", "--once", "hello"], "no/such/model"),
        (["merge", "no/such/model", "--out", "merged"], "no/such/model"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("content", ["- a list", "model: [unclosed", ""])
def test_a_broken_configuration_is_named(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    assert main(["fit", "-c", str(file)]) == 1
    assert "broken.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fit", "-c", str(MICRO), "--trainer.max_stepz", "1"], "--trainer.max_stepz"),
        (["fit", "-c", str(MICRO), "--model.init_args.learning_rte", "1"], "'learning_rte'"),
        (["test", "-c", str(MICRO), "--model.init_args.learning_rte", "1"], "'learning_rte'"),
        (["fit", "-c", str(MICRO), "--data.init_args.batch_size", "x"], "data.batch_size: "),
    ],
)
def test_an_unknown_key_or_a_wrong_value_is_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert named in captured.err
    assert "--print_config" in captured.err
    assert captured.err.count("\n") == 1


def test_an_unknown_option_of_chat_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["chat", "--onze", "hello"])
    assert ended.value.code == 2
    assert "onze" in capsys.readouterr().err


def test_an_unknown_key_in_a_configuration_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "over.yaml"
    file.write_text("trainer:\n  max_stepz: 3\n")
    assert main(["fit", "-c", str(MICRO), "-c", str(file)]) == 1
    assert "max_stepz" in capsys.readouterr().err
