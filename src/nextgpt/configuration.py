"""The configuration of a chain: a dictionary of class paths, arguments and sources."""

import copy
import os
from pathlib import Path
from typing import Any, TypeVar

from nextgpt.language_model import LanguageModel
from nextgpt.model import NextGPTModel

Built = TypeVar("Built", NextGPTModel, LanguageModel)
PRECISIONS = ("float32", "bfloat16", "float16")
SOURCE_KEYS = ("source", "trunk", "start_from")
"""Keys of a configuration whose values say where weights come from."""


def with_sources(config: Any, change: Any) -> Any:
    """Copy a configuration, with ``change`` applied to the value of every source."""
    if isinstance(config, dict):
        return {
            key: change(value) if key in SOURCE_KEYS else with_sources(value, change)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [with_sources(value, change) for value in config]
    return config


def anchored(config: Any, folder: Path) -> Any:
    """Make the sources of a file in ``folder`` that start with a dot into whole paths."""

    def anchor(source: Any) -> Any:
        local = isinstance(source, str) and source.startswith(".")
        return os.path.normpath(folder.resolve() / source) if local else source

    return with_sources(config, anchor)


def relative(config: Any, folder: Path) -> Any:
    """Undo ``anchored``: name local sources relative to ``folder``."""

    def relate(source: Any) -> Any:
        if not isinstance(source, str) or not os.path.isabs(source):
            return source
        path = os.path.relpath(source, folder.resolve())
        return path if path.startswith(".") else f"./{path}"

    return with_sources(config, relate)


def build(config: dict[str, Any]) -> NextGPTModel:
    """Build a chain from its configuration: the ``chain`` of a YAML file.

    Raises:
        ValueError: a key or value is not one that the parts take.
    """
    return built_as(NextGPTModel, config)


def built_as(kind: type[Built], config: dict[str, Any]) -> Built:
    """Build a chain, or a language model alone, from its configuration.

    Raises:
        ValueError: as ``build``.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    name = "chain" if kind is NextGPTModel else "language_model"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, name)
    try:
        parsed = parser.parse_object({name: copy.deepcopy(config)})
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return parser.instantiate_classes(parsed)[name]


def options_of(part: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a part, with or without a class path beside them."""
    return part.get("init_args", part)


def in_precision(chain: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Copy a chain's configuration, with another precision of its frozen parts.

    Raises:
        ValueError: there is no such precision.
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"unknown dtype {dtype!r}; choose from {', '.join(PRECISIONS)}")
    chain = copy.deepcopy(chain)
    options = options_of(chain)
    for part in (options["language_model"], *options["decoders"].values()):
        options_of(part)["dtype"] = dtype
    return chain
