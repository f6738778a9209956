"""The demos run as they stand, here on a chain that answers at random."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import pytest
from tiny_chain import tiny_chain

from nextgpt import NextGPT

if TYPE_CHECKING:
    from conftest import TinyParts

DEMO = Path(__file__).parent.parent / "demo"


@pytest.fixture(autouse=True)
def _tiny_model(tiny: TinyParts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Load the tiny chain instead of the micro model, and work in a folder of the test's own."""
    assistant = NextGPT(tiny_chain(tiny))
    monkeypatch.setattr(NextGPT, "from_pretrained", lambda *_: assistant)
    monkeypatch.chdir(tmp_path)


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(DEMO / name), run_name="__main__")


def test_the_quickstart_saves_its_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    run("quickstart.py", monkeypatch)
    assert Path("nextgpt-out/quickstart/conversation.json").is_file()


def test_the_gallery_is_one_picture_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first.png", "second.png"):
        run("gallery.py", monkeypatch, "--out", name)
    picture = PIL.Image.open("first.png")
    assert picture.width == 1160
    colours = picture.getcolors(1 << 22)
    assert colours is not None and len(colours) > 500, "it holds more than paper and ink"
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()
