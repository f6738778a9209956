"""Weights in files of others: tensors alone, read from the disk as they are needed."""

import json
import pickle
import re
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nextgpt.base_model import model_directory

Rows = Any
"""A table that is sliced by rows: a tensor, or a slice of a safetensors file."""


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Open a pickled dictionary of tensors; what it names besides is not run.

    Tensors of a file written by torch 1.6 or later stay on the disk until they are used.

    Raises:
        ValueError: it is missing, broken, or holds something other than floating-point tensors by
            name.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        found = torch.load(file, "cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"code or objects ({named[1]})" if named else "no pickled tensors"
        raise ValueError(
            f"{file} holds {what}, so it was not loaded; take the file from its publisher"
        ) from error
    except Exception as error:  # a broken pickle can raise anything
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{file} cannot be read ({lines[0][:200]}); it is broken or cut off, fetch it again"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds a {type(found).__name__}, not tensors by name")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f"{file}: {key!r} is a {type(value).__name__}, not a tensor by name")
        if value.nbytes > file.stat().st_size:
            raise ValueError(f"{file}: {key} claims to be larger than the whole file")
        if not value.is_floating_point():
            raise ValueError(f"{file}: {key} holds {value.dtype}, not floating-point numbers")
    return found


class BaseTables:
    """Embedding tables of a Llama-like model, by source; read by rows."""

    _KEYS = {"input": "model.embed_tokens.weight", "output": "lm_head.weight"}

    def __init__(self, source: str) -> None:
        """Look at the model's configuration.

        Raises:
            ValueError: the source holds no model.
        """
        self.folder = model_directory(source)
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        try:
            self.vocabulary_size: int = config["vocab_size"]
            self.hidden_size: int = config["hidden_size"]
        except KeyError as error:
            raise ValueError(f"{self.folder / 'config.json'}: {error} is missing") from error
        self._tied: bool = config.get("tie_word_embeddings", False)
        self._open = ExitStack()

    def __enter__(self) -> "BaseTables":
        """Keep files open inside the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close them."""
        self._open.close()

    def table(self, name: str) -> Rows:
        """Return the ``input`` or ``output`` table, (V, D).

        Raises:
            ValueError: no file of the directory holds it.
        """
        key = self._KEYS["input" if self._tied else name]
        for index in sorted(self.folder.glob("*.index.json")):
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            if key in shards:
                return self._read(self.folder / Path(shards[key]).name, key)
        for pattern in ("*.safetensors", "pytorch_model*.bin"):
            for file in sorted(self.folder.glob(pattern)):
                return self._read(file, key)
        raise ValueError(f"{self.folder}: no weights beside config.json; copy the model again")

    def _read(self, file: Path, key: str) -> Rows:
        if file.suffix == ".safetensors":
            try:
                opened = self._open.enter_context(safe_open(file, "pt"))
                return opened.get_slice(key)
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{file} cannot be read ({error}); copy it again") from error
        tensors = load_tensors(file)
        if key not in tensors:
            raise ValueError(f"{file}: {key} is missing; is this a Llama?")
        return tensors[key]


def drift(table: Tensor, base: Rows, chunk: int = 1024) -> tuple[float, float]:
    """How far a table moved from another, a chunk of rows at a time.

    Args:
        table: (V, D).
        base: (V, D) or with more rows, which are left out.
        chunk: Rows in memory.

    Returns:
        The Euclidean norm of the difference over that of the base, of all and of the row that
        moved most.
    """
    moved = length = worst = 0.0
    for start in range(0, len(table), chunk):
        end = min(start + chunk, len(table))
        before = base[start:end].float()
        differences = (table[start:end].float() - before).norm(dim=1)
        lengths = before.norm(dim=1)
        moved += float(differences.square().sum())
        length += float(lengths.square().sum())
        worst = max(worst, float((differences / lengths.clamp_min(1e-6)).max()))
    return (moved / max(length, 1e-12)) ** 0.5, worst
