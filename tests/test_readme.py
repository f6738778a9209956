"""The documents name commands, options, files and sources that exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import nextgpt
from nextgpt.cli import TRAINING_WORDS, USAGE, main
from nextgpt.configuration import read_config
from nextgpt.world.sources import SOURCES

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "checkpoints/micro/README.md",
    "docs/data.md",
    "docs/micro.md",
    "docs/scale.md",
)


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


COMMANDS = sorted(
    {
        line.removeprefix("$ ")
        for document in DOCUMENTS
        for block in blocks(document, "console")
        for line in block.replace("\\\n", "").splitlines()
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
            assert rest[1] in read_config(ROOT / file)["stages"]
        return
    with pytest.raises(SystemExit):
        has_words = word == "convert" or arguments[:1] == ["show"]
        main([word, *(arguments[:1] if has_words else []), "--help"])
    options = capsys.readouterr().out
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert f"{option} " in options or f"{option}\n" in options


def test_no_command_is_of_another_kind() -> None:
    known = ("make ", "nextgpt ", "pip install ", "python3 -m venv ", ".venv/bin/pip install ",
             "torchrun ")  # fmt: skip
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
        for name in re.findall(r"`((?:configs|tests|demo|docs|src)/[\w./]*)`", text):
            assert (ROOT / name).exists(), f"{document} names {name}"
        for name in re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE):
            for path in re.findall(r"`([\w/]+(?:\.py|/))`", name):
                assert (ROOT / "src" / "nextgpt" / path).exists(), f"{document} names {path}"


def test_make_micro_trains_every_part_and_every_stage() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    named = {
        name: re.findall(rf"^{name} := (.*)$", makefile, flags=re.MULTILINE)[0].split()
        for name in ("PARTS", "STAGES")
    }
    assert sorted(named["PARTS"]) == sorted(p.stem for p in (ROOT / "configs/parts").glob("*.yaml"))
    stages = yaml.safe_load((ROOT / "configs/micro.yaml").read_text())["stages"]
    assert named["STAGES"] == list(stages)


def test_a_table_is_written_between_its_marks(tmp_path: Path) -> None:
    table, document = tmp_path / "results.md", tmp_path / "README.md"
    table.write_text("| what |\n|---|\n| new |\n")
    document.write_text("# A\n<!-- results -->\nold\n<!-- end of results -->\nB\n")
    runpy = [sys.executable, str(ROOT / ".ci" / "tables.py"), str(table), str(document)]
    for _ in range(2):
        subprocess.run(runpy, check=True)
    assert document.read_text() == (
        "# A\n<!-- results -->\n\n| what |\n|---|\n| new |\n\n<!-- end of results -->\nB\n"
    )
    document.write_text("# no place\n")
    assert subprocess.run(runpy, capture_output=True, text=True).returncode == 1
    assert document.read_text() == "# no place\n"


def test_readme_and_model_card_hold_the_same_table() -> None:
    tables = [
        (ROOT / name).read_text(encoding="utf-8").partition("<!-- results -->")[2]
        for name in ("README.md", "checkpoints/micro/README.md")
    ]
    found = [text.partition("<!-- end of results -->")[0].strip() for text in tables]
    assert found[0] == found[1]
    assert found[0].count("\n| ") > 10


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
