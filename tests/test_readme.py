"""The documents name commands, options, files and sources that exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

import nextgpt
from nextgpt.cli import TRAINING_WORDS, USAGE, main
from nextgpt.world.sources import SOURCES

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md")


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


COMMANDS = sorted(
    {
        line.removeprefix("$ ")
        for document in DOCUMENTS
        for block in blocks(document, "console")
        for line in block.splitlines()
    }
)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_a_make_target_exists(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("nextgpt ")])
def test_a_nextgpt_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, word, *arguments = shlex.split(command)
    assert f"\n  {word} " in USAGE
    if word in TRAINING_WORDS:
        file, *rest = arguments[1:]
        assert (ROOT / file).is_file()
        if rest[:1] == ["--stage"]:
            assert rest[1] in yaml.safe_load((ROOT / file).read_text())["stages"]
        return
    with pytest.raises(SystemExit):
        main([word, "--help"])
    options = capsys.readouterr().out
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert f"{option} " in options or f"{option}\n" in options


def test_no_command_is_of_another_kind() -> None:
    known = ("make ", "nextgpt ", "pip install ", "python3 -m venv ", ".venv/bin/pip install ")
    assert COMMANDS
    assert not [command for command in COMMANDS if not command.startswith(known)]


@pytest.mark.parametrize("block", blocks("README.md", "python"))
def test_python_examples_use_what_exists(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            assert node.module == "nextgpt"
            assert {alias.name for alias in node.names} <= set(nextgpt.__all__)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", None)
            if owner in ("model", "NextGPT"):
                assert hasattr(nextgpt.NextGPT, node.func.attr)
            if owner == "reply":
                assert hasattr(nextgpt.Message, node.func.attr)


def test_files_named_in_the_documents_exist() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for name in re.findall(r"`((?:configs|tests|demo|src)/[\w./]*)`", text):
            assert (ROOT / name).exists(), f"{document} names {name}"
        for name in re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE):
            for path in re.findall(r"`([\w/]+(?:\.py|/))`", name):
                assert (ROOT / "src" / "nextgpt" / path).exists(), f"{document} names {path}"


def test_the_tour_names_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "nextgpt").iterdir():
        if path.stem.startswith("_"):
            continue
        name = f"`{path.name}/`" if path.is_dir() else f"`{path.name}`"
        # The last three are named where the rules about them are, or need no place in the tour.
        assert name in text or path.name in ("collate.py", "losses.py", "py.typed"), name


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_notice_names_every_source_with_its_licence(source) -> None:  # noqa: ANN001
    line = next(
        line
        for line in (ROOT / "NOTICE").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"{source.client} {source.package} {source.version} ")
    )
    assert line.endswith(source.licence)
