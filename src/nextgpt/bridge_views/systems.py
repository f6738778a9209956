"""Systems: configurations of chains, read and built without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nextgpt import checkpoint, configuration
from nextgpt.configuration import read_config, staged
from nextgpt.model import NextGPTModel
from nextgpt.sources import SourceError

FOLDER, OVERLAY = "configs/bridges", "micro.yaml"
"""Where systems are; what lies over each of them in ``micro/``, and is none itself."""
OWN = ("configs/nextgpt-7b.yaml", "configs/micro.yaml")
"""NExT-GPT itself, and as a micro model."""


def shipped_systems(micro: bool = False) -> dict[str, Path]:
    """Files of all systems by their names, NExT-GPT first.

    Args:
        micro: Their bridges on the micro model.
    """
    folder = checkpoint.shipped(FOLDER)
    others = sorted((folder / "micro" if micro else folder).glob("*.yaml"))
    own = checkpoint.shipped(OWN[micro])
    systems = {file.stem: file for file in others if file.name != OVERLAY}
    return {Path(OWN[0]).stem: own} | systems


class System:
    """One system: what its configuration says, and its chain without weights.

    Args:
        file: A configuration of a chain.

    Raises:
        ValueError: it is not usable, or not that of a chain.
    """

    def __init__(self, file: Path) -> None:
        self.name = file.stem
        self._config = read_config(file)
        self._built: dict[str, NextGPTModel] = {}
        about = self._config.get("about") or {}
        stages = self._config.get("stages") or {}
        for key, value in {"about": about, "stages": stages, **_within("stages", stages)}.items():
            if not isinstance(value, dict):
                raise ValueError(f"{key} is {value!r}; give a mapping")
        self.about = {"system": self.name, **{key: str(value) for key, value in about.items()}}
        self.stages = list(stages)
        self.chain = self._chain(_chain_options(staged(dict(self._config), None))["chain"])

    def num_trained(self, stage: str) -> int | None:
        """Parameters that a stage trains, of the chain or of a part.

        None where a part needs what is neither here nor can be fetched, such as a tokenizer.

        Raises:
            ValueError: the stage's configuration is not usable.
        """
        config = staged(dict(self._config), stage)
        model = config["model"]
        if model.get("class_path") != self._config["model"].get("class_path"):
            try:
                return _num_trainable(_part(model))
            except ValueError as error:
                if isinstance(root_cause(error), SourceError):
                    return None
                raise
        options = _chain_options(config)
        # Trained weights are in float32, which decides no shape: all stages share their chain.
        config = configuration.in_precision(options["chain"], "float32")
        trains = options.get("trains") or []
        if not isinstance(trains, list):
            raise ValueError(f"trains of stage {stage} is {trains!r}; give a list of parts")
        chain = self._chain(config, "lora" in trains)
        with torch.device("meta"):
            chain.set_trainable(trains)
        return _num_trainable(chain)

    def _chain(self, config: dict[str, Any], with_lora: bool = False) -> NextGPTModel:
        """Build a chain without weights, once for all stages with or all without an adapter."""
        key = json.dumps([config, with_lora], default=str)
        if key not in self._built:
            with torch.device("meta"):
                self._built[key] = configuration.build(config)
        return self._built[key]


def root_cause(error: BaseException) -> BaseException:
    """The error that others were raised from: jsonargparse wraps what parts raise."""
    while isinstance(error.__cause__, ValueError):
        error = error.__cause__
    return error


def _within(name: str, mapping: Any) -> dict[str, Any]:
    """The values of a mapping, under names that lead to them; nothing is an empty mapping."""
    items = mapping.items() if isinstance(mapping, dict) else ()
    return {f"{name}.{key}": value or {} for key, value in items}


def _chain_options(config: dict[str, Any]) -> dict[str, Any]:
    model = config.get("model")
    options = model.get("init_args") if isinstance(model, dict) else None
    if not isinstance(options, dict) or not isinstance(options.get("chain"), dict):
        raise ValueError("describes no chain: model.init_args.chain is not there")
    return options


def _part(config: dict[str, Any]) -> nn.Module:
    """Build what trains a part, without weights."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "model")
    try:
        parsed = parser.parse_object({"model": config})
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    with torch.device("meta"):
        return parser.instantiate_classes(parsed).model


def _num_trainable(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters() if each.requires_grad)
