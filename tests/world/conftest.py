"""Hand-made icon sets: every drawing of the world as a small pattern of its own."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_icons import pattern, write_icon_set

from nextgpt.world import build, sources
from nextgpt.world.concepts import ARTISTS, drawings


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hand-made archives under the real names."""
    folder = tmp_path_factory.mktemp("archives")
    for name, artist in ARTISTS.items():
        icons = {
            drawing.icon: {"body": pattern(drawing.key)}
            for drawing in drawings(artist.party)
            if drawing.artist == name
        }
        source = sources.ICON_SOURCES[name]
        data = {"width": 6, "height": 6, "icons": icons}
        write_icon_set(folder / f"iconify-json-{name}-{source.version}.tgz", data)
    return folder


@pytest.fixture(scope="module")
def pinned_archives(archives: Path) -> Iterator[Path]:
    """The hand-made archives, with the table of pins speaking of them."""
    monkeypatch = pytest.MonkeyPatch()
    for name, source in sources.ICON_SOURCES.items():
        content = (archives / f"iconify-json-{name}-{source.version}.tgz").read_bytes()
        pinned = dataclasses.replace(source, sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(sources.ICON_SOURCES, name, pinned)
    # Each drawing is rendered once for all the tests of a file.
    rendered_once = functools.cache(build._render_party)
    monkeypatch.setattr(build, "_render_party", rendered_once)
    yield archives
    monkeypatch.undo()
