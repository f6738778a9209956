"""The models that a pipeline is made of, by the names in its ``model_index.json``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def component_class(library: str, class_name: str) -> Any:
    """Find a class as a ``model_index.json`` names it."""
    try:
        module = importlib.import_module(library)
    except ModuleNotFoundError:
        # Parts of one family only, such as its safety checker, are named by the family alone.
        module = importlib.import_module(f"diffusers.pipelines.{library}")
    return getattr(module, class_name)


def without_weights(component: Any, folder: Path) -> Any:
    """Build a model from its ``config.json`` alone."""
    if hasattr(component, "load_config"):
        return component.from_config(component.load_config(folder))
    return component(component.config_class.from_pretrained(folder))
