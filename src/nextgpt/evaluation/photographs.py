"""Real photographs of the world's concepts, from packages that happen to hold some."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from nextgpt.media import Image
from nextgpt.world.sources import PinnedSource

PHOTOGRAPHS: dict[PinnedSource, dict[str, str]] = {
    PinnedSource(
        "pypi",
        "ascii_magic",
        "2.7.5",
        "9022e906c6ebaa7231e9af4587fa04636ec290240be5f2b65c3bbd071f94973a",
        "MIT",
        "test",
        "photographs",
    ): {
        "ascii_magic/tests/lion.jpg": "lion",
    },
    PinnedSource(
        "pypi",
        "fastbook",
        "0.0.29",
        "3e665803571ef4914956a4a0e029c28e9a6e229858d426ccec466db5ced40e44",
        "Apache-2.0",
        "test",
        "photographs",
    ): {
        "fastbook/images/cat.jpg": "cat",
    },
    PinnedSource(
        "pypi",
        "foolbox",
        "3.3.4",
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        "MIT",
        "test",
        "photographs",
    ): {
        "foolbox/data/imagenet_00_243.jpg": "dog",
        "foolbox/data/imagenet_16_251.jpg": "dog",
        "foolbox/data/imagenet_04_949.jpg": "strawberry",
        "foolbox/data/imagenet_05_853.jpg": "house",
        "foolbox/data/imagenet_06_609.jpg": "car",
        "foolbox/data/imagenet_07_609.jpg": "car",
        "foolbox/data/imagenet_10_541.jpg": "drum",
    },
    PinnedSource(
        "pypi",
        "gradio",
        "3.50.2",
        "dffc070955225dbc3af0cf4ce93a169267485bb6972ee76ff7a0f31be77346a0",
        "Apache-2.0",
        "test",
        "photographs",
    ): {
        "gradio/test_data/lion.jpg": "lion",
    },
    PinnedSource(
        "pypi",
        "ultralytics",
        "8.4.190",
        "bd309728efa168af64d39040136828edd2dbcb4aeceb4510bdff4f3ca0ea01b8",
        "AGPL-3.0-or-later",
        "test",
        "photographs",
    ): {
        "ultralytics/assets/bus.jpg": "bus",
    },
}
"""Package -> its photographs and what they show. All that were found: none was left out for how a
model does on it."""


@dataclass(frozen=True)
class Photograph:
    """A photograph and what it shows."""

    image: Image
    concept: str


def photographs(archives: Path | None = None) -> list[Photograph]:
    """Fetch and read all photographs.

    Args:
        archives: Folder of packages fetched by hand, looked at before the registry.

    Raises:
        SourceError: a package cannot be had.
    """
    found = []
    for source, members in PHOTOGRAPHS.items():
        with zipfile.ZipFile(source.fetch(archives)) as wheel:
            found += [Photograph(Image(wheel.read(name)), shows) for name, shows in members.items()]
    return found
