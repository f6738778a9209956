"""Imports point one way, heavy packages stay in their places, and importing nextgpt is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "nextgpt"
FILES = sorted(SOURCE.rglob("*.py"))

# From top to bottom: a module imports its own line's modules' lower lines only.
LAYERS = (
    ("cli",),
    ("evaluation",),
    ("chat", "training", "web"),
    ("world",),
    ("data",),
    ("engine", "ranking"),
    ("generation",),
    ("rendering",),
    ("writing",),
    ("memory",),
    ("doctor", "bridge_views"),
    ("conversion", "sharing"),
    ("checkpoint",),
    ("configuration",),
    ("collate",),
    ("model",),
    ("input_side",),
    ("batch",),
    ("placement",),
    ("encoders", "bridges", "language_model", "projections", "decoders"),
    ("base_model",),
    ("prompting",),
    ("signals",),
    ("events",),
    ("archive",),
    ("messages",),
    ("media",),
    ("architectures", "layout"),
    ("modality", "sources", "losses", "ranks"),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

PLACES = {
    "lightning": ("training/", "data/datamodule.py", "evaluation/judge.py", "cli.py"),
    "diffusers": ("decoders/", "training/parts/"),
    "peft": ("language_model.py",),
    "gradio": ("web/", "cli.py"),
    "litdata": ("data/chunks.py",),
}

OPTIONAL = (
    "resvg_py",
    "tinysoundfont",
    "timm",
    "imagebind",
    "tensorboard",
    "gradio",
    "litdata",
    "skimage",
    "sklearn",
    "pytest",
)


@cache
def imported_names(file: Path) -> list[str]:
    """Every dotted name that a file imports, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import in line {node.lineno}"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def module_of(file: Path) -> str:
    """The top-level module or package of nextgpt that a file belongs to."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_imports_only_from_layers_below_it(file: Path) -> None:
    module = module_of(file)
    if module == "__init__":
        return
    assert module in LAYER_OF, f"give {module} a place in LAYERS"
    for name in imported_names(file):
        package, *inside = name.split(".")
        if package != "nextgpt" or not inside or inside[0] == module:
            continue
        # `from nextgpt import X` gives the module X.
        assert LAYER_OF[module] < LAYER_OF[inside[0]], f"{module} may not import {name}"


@pytest.mark.parametrize("package", PLACES)
def test_a_heavy_package_is_imported_only_in_its_places(package: str) -> None:
    found = {
        file.relative_to(SOURCE).as_posix()
        for file in FILES
        if any(name.split(".")[0] == package for name in imported_names(file))
    }
    assert not [file for file in found if not file.startswith(PLACES[package])]


def test_decoders_import_diffusers_inside_functions_only() -> None:
    for file in (SOURCE / "decoders").glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            assert "diffusers" not in {getattr(node, "module", None), *names}, file


def test_no_module_is_called_utils() -> None:
    assert not [file for file in FILES if file.stem in ("utils", "helpers", "common", "misc")]


def test_importing_nextgpt_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, time, nextgpt, nextgpt.cli\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'lightning', 'peft', 'numpy', 'av'}\n"
        "print(time.process_time(), *sorted(heavy & set(sys.modules)))"
    )
    seconds, *loaded = run(program).split()
    assert not loaded
    assert float(seconds) < 2  # measured 0.1 s


def test_every_public_name_can_be_imported() -> None:
    import nextgpt

    assert {type(getattr(nextgpt, name)).__name__ for name in nextgpt.__all__}
    assert set(nextgpt.__all__) <= set(dir(nextgpt))
    with pytest.raises(AttributeError, match="Imagee"):
        nextgpt.Imagee  # noqa: B018


def test_every_module_imports_without_the_optional_packages() -> None:
    modules = [
        ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in FILES
        if not file.is_relative_to(SOURCE / "web")  # it is nothing but a page of gradio's
    ]
    run(
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)"
    )


def run(program: str) -> str:
    """Run a program in a fresh Python and return what it prints."""
    program = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n{program}"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
