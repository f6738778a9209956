"""The configuration of a chain: a dictionary of class paths, arguments and sources."""

import copy
import functools
import os
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nextgpt.language_model import LanguageModel
from nextgpt.model import NextGPTModel

Built = TypeVar("Built", NextGPTModel, LanguageModel)
PRECISIONS = ("float32", "bfloat16", "float16")
SOURCE_KEYS = ("source", "trunk", "tokenizer", "start_from")
"""Keys of a configuration whose values say where weights come from."""


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another: mappings are merged, everything else replaced.

    A part of another class is replaced as a whole, since its arguments are not the same.
    """
    result = dict(base)
    for key, value in over.items():
        mine = result.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            classes = mine.get("class_path"), value.get("class_path")
            if None in classes or classes[0] == classes[1]:
                value = merged(mine, value)
        result[key] = value
    return result


def read_config(path: Path, over: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read one YAML file, laid over the one or several that its key ``base`` names.

    The stages that a file names come in its order, before others of its base. A stage that is null
    is one of the base that this configuration does not have.

    Sources that start with a dot, and ``base``, are relative to the file that they stand in.

    Args:
        path: The file.
        over: Files that led to it by their ``base``, the first one first.

    Raises:
        ValueError: it is missing or not a mapping, or is laid over itself.
    """
    named = f"; it is the base of {over[-1]}" if over else ""
    if path.resolve() in (each.resolve() for each in over):
        way = " -> ".join(map(str, (*over, path)))
        raise ValueError(f"{path} is laid over itself ({way}); take one `base` out")
    if not path.is_file():
        raise ValueError(f"{path}: no such configuration; name a YAML file{named}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: holds no mapping of options")
    base = config.pop("base", None)
    config = anchored(config, path.parent)
    bases = base if isinstance(base, list) else [] if base is None else [base]
    if not all(isinstance(each, str) for each in bases):
        raise ValueError(f"{path}: base is {base!r}; name a YAML file, or a list of them")
    layers = [read_config(path.parent / each, (*over, path)) for each in bases]
    whole = functools.reduce(merged, [*layers, config])
    if isinstance(stages := whole.get("stages"), dict):
        order = dict.fromkeys([*(config.get("stages") or {}), *stages])
        whole["stages"] = {name: stages[name] for name in order if stages[name] is not None}
    return whole


def staged(config: dict[str, Any], stage: str | None) -> dict[str, Any]:
    """Lay the chosen stage over the rest of a configuration, which is all that a run needs.

    What it says of all stages, and ``about`` itself, is taken out.

    Raises:
        ValueError: the stage is not one of the configuration's.
    """
    config.pop("about", None)
    stages = config.pop("stages", None) or {}
    if stage is None:
        return config
    if stage not in stages:
        known = ", ".join(stages) or "none"
        raise ValueError(f"there is no stage {stage!r} in this configuration; its stages: {known}")
    return merged(config, stages[stage] or {})


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
