"""English prose that has nothing to do with media, to measure the language model on."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from nextgpt.world.debian import debian_file
from nextgpt.world.sources import PinnedSource

SOURCE = PinnedSource(
    "debian",
    "debian-faq",
    "11.1",
    "427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0",
    "GPL-2.0-or-later",
    "test",
    "questions and answers about Debian, prose",
)
SHORTEST = 200
"""Characters of a paragraph; shorter ones are headings."""
NUMBERED = re.compile(r"\d+\.\d+\. ")
"""A section's number: the table of contents is full of them."""


def prose(archives: Path | None = None) -> str:
    """Fetch the text; its lines are joined to paragraphs, headings and contents left out.

    Args:
        archives: Folder of packages fetched by hand, looked at before the archive.

    Raises:
        SourceError: the package cannot be had.
    """
    path = debian_file(SOURCE.fetch(archives), "debian-faq.en.txt.gz")
    blocks = gzip.decompress(path.read_bytes()).decode().split("\n\n")
    paragraphs = (" ".join(block.split()) for block in blocks)
    return "\n\n".join(p for p in paragraphs if len(p) > SHORTEST and not NUMBERED.search(p))
