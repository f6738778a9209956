"""Hand-made icon sets, laid out like those of ``@iconify-json``."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path


def write_icon_set(path: Path, data: dict) -> Path:
    """Write an archive laid out like those of ``@iconify-json``."""
    content = json.dumps(data).encode()
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


def pattern(name: str) -> str:
    """An SVG body of 64 squares on 6 x 6, black, grey or orange: no two names look alike."""
    rng = random.Random(name)
    return "".join(
        f'<path fill="{rng.choice(("#000", "#888", "#f80"))}" d="M{x} {y}h.75v.75h-.75z"/>'
        for x in (0.75 * column for column in range(8))
        for y in (0.75 * row for row in range(8))
    )
