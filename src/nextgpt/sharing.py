"""Checkpoint directories on the Hugging Face hub."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from nextgpt import checkpoint, configuration
from nextgpt.model import NextGPTModel
from nextgpt.sources import SourceError

logger = logging.getLogger(__name__)

DOCUMENTS = ("README.md", "conversion.md")


def save_copy(model: NextGPTModel, home: Path, directory: Path) -> None:
    """Write a model that came from the checkpoint ``home`` as another checkpoint.

    Parts that lie in ``home`` are copied along; other local parts are named where they are.
    """
    config = checkpoint.chain_config(home)
    home, target = home.resolve(), directory.resolve()

    def moved(source: Any) -> Any:
        place = _within(source, home)
        if place is None or target == home:
            return source
        shutil.copytree(home / place, target / place, dirs_exist_ok=True)
        return str(target / place)

    target.mkdir(parents=True, exist_ok=True)
    config = configuration.with_sources(config, moved)
    record = json.loads((home / checkpoint.PROVENANCE).read_text(encoding="utf-8"))
    for rewritten in ("language_model", "adapter", "versions"):
        record.pop(rewritten, None)
    for name in DOCUMENTS:
        if (home / name).is_file() and target != home:
            shutil.copyfile(home / name, target / name)
    checkpoint.save(model, target, config, record)


def push(model: NextGPTModel, home: Path, repository: str, private: bool, message: str) -> str:
    """Upload a model that came from the checkpoint ``home`` to the hub.

    Args:
        model: The model.
        home: Where it came from.
        repository: ``owner/name``; is made if need be.
        private: Whether a repository made here is private.
        message: Of the commit.

    Returns:
        The new revision as a source: ``hf:owner/name@commit``.

    Raises:
        ValueError: a part lies outside of ``home``, where nobody else finds it.
        SourceError: the hub refuses, or there is no network.
    """
    from huggingface_hub import HfApi

    outside: list[str] = []

    def look(source: Any) -> Any:
        if isinstance(source, str) and os.path.isabs(source) and _within(source, home) is None:
            outside.append(source)
        return source

    configuration.with_sources(checkpoint.chain_config(home), look)
    if outside:
        raise ValueError(
            f"{', '.join(outside)}: only this machine has it; name it as hf:owner/name@revision in "
            f"{home / checkpoint.CONFIG}, or move it into {home}"
        )
    with tempfile.TemporaryDirectory(prefix="nextgpt-") as folder:
        save_copy(model, home, Path(folder))
        api = HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message
            )
        except Exception as error:  # huggingface_hub's errors have no common base across versions
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise SourceError(
                f"could not upload to {repository} ({lines[0][:200]}): check the name and the "
                "network, and log in with `hf auth login`"
            ) from error
    logger.info("uploaded to %s", commit.commit_url)
    return f"hf:{repository}@{commit.oid}"


def _within(source: Any, home: Path) -> Path | None:
    """Return the place of a local source in a directory, None where it is not in it."""
    if not isinstance(source, str) or not os.path.isabs(source):
        return None
    path, home = Path(source).resolve(), home.resolve()
    return path.relative_to(home) if path.is_relative_to(home) else None
