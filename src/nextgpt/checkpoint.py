"""A trained model as a directory: what was trained, and where every other part comes from."""

import copy
import json
import logging
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nextgpt.language_model import load_exactly
from nextgpt.model import NextGPTModel

logger = logging.getLogger(__name__)

CONFIG, ADAPTER = "config.yaml", "adapter"
PROJECTIONS, SIGNAL_ROWS, PROVENANCE = (
    "projections.safetensors",
    "signal_rows.safetensors",
    "provenance.json",
)
PRECISIONS = ("float32", "bfloat16", "float16")
SOURCE_KEYS = ("source", "trunk", "start_from")
"""Keys of a configuration whose values say where weights come from."""


def shipped_model() -> Path:
    """Return the directory of the micro model, in the clone or inside the installed package.

    Raises:
        ValueError: neither holds it.
    """
    package = Path(__file__).parent
    for folder in (package, package.parents[1]):
        if (folder / "checkpoints" / "micro" / CONFIG).exists():
            return folder / "checkpoints" / "micro"
    raise ValueError("the micro model is not installed here; name a checkpoint directory")


def card(directory: Path) -> str:
    """Read what a checkpoint says of itself, Markdown; nothing where it says nothing."""
    path = Path(directory) / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip()


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
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(NextGPTModel, "chain")
    try:
        parsed = parser.parse_object({"chain": copy.deepcopy(config)})
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return parser.instantiate_classes(parsed).chain


def save(
    model: NextGPTModel,
    directory: Path,
    config: dict[str, Any],
    provenance: dict[str, Any],
) -> None:
    """Write the trained parts of a model, and nothing else; parameters as float16.

    Args:
        model: The trained chain.
        directory: Is made if need be; files of an earlier checkpoint are replaced.
        config: The chain's configuration, sources as whole paths or pinned names.
        provenance: What it was trained on, by whom it was preceded, what it measured.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = model.trainable_parts()
    parameters = dict(model.named_parameters())
    projections = {
        # Statistics exceed the range of float16.
        key: value.half() if key in parameters else value
        for key, value in projection_state(model).items()
    }
    rows = {key: value.detach().half() for key, value in parts["signal_rows"].items()}
    versions = {
        name: metadata.version(name) for name in ("torch", "transformers", "diffusers", "peft")
    }
    base = {
        "hidden_size": model.language_model.hidden_size,
        "vocabulary_size": model.language_model.vocabulary_size,
    }
    record = {
        "language_model": base,
        "adapter": bool(parts["lora"]),
        "versions": versions,
        **provenance,
    }
    text = yaml.safe_dump({"chain": relative(config, directory)}, sort_keys=False)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as name:
        # Moved only when all is written: files of two trainings would load without a complaint.
        partial = Path(name)
        save_file(projections, partial / PROJECTIONS)
        save_file(rows, partial / SIGNAL_ROWS)
        if parts["lora"]:
            model.language_model.save_lora(partial / ADAPTER)
        (partial / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")
        (partial / CONFIG).write_text(text)
        shutil.rmtree(directory / ADAPTER, ignore_errors=True)
        for file in partial.iterdir():
            file.replace(directory / file.name)


def load_trained(model: NextGPTModel, directory: Path, grow: bool = False) -> None:
    """Read the trained parts of a checkpoint into a chain of the same shape.

    Args:
        model: The chain.
        directory: The checkpoint.
        grow: Let the chain have decoders that the checkpoint has not: their projections and signal
            rows stay as they are, all else is read as exactly as ever.

    Raises:
        ValueError: naming the file and every key that is missing, unexpected or misshapen, or the
            width or vocabulary of another base model.
    """
    language_model, has_adapter = _read(directory, PROVENANCE, _facts)
    for key, value in language_model.items():
        ours = getattr(model.language_model, key)
        if ours != value:
            raise ValueError(
                f"{directory / PROVENANCE}: trained on a language model with {key} {value}, this "
                f"one has {ours}; use the language model named in {directory / CONFIG}"
            )
    parts = model.trainable_parts()
    projections = _read(directory, PROJECTIONS, load_file)
    rows = _read(directory, SIGNAL_ROWS, load_file)
    if grow:
        projections, rows = _grown(model, directory, projections, rows)
    load_exactly(projection_state(model), projections, directory / PROJECTIONS)
    load_exactly(parts["signal_rows"], rows, directory / SIGNAL_ROWS)
    if has_adapter or (directory / ADAPTER).exists():
        # Read here first, because the errors of peft name neither file nor remedy.
        _read(directory, f"{ADAPTER}/adapter_config.json", _json)
        _read(directory, f"{ADAPTER}/adapter_model.safetensors", load_file)
        model.language_model.load_lora(directory / ADAPTER)
    model.requires_grad_(False)


def _grown(
    model: NextGPTModel,
    directory: Path,
    projections: dict[str, torch.Tensor],
    rows: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Add to a checkpoint's tensors the model's own of the decoders that it lacks."""
    config = _read(directory, CONFIG, lambda file: yaml.safe_load(file.read_text()))
    earlier = config["chain"].get("init_args", config["chain"])["num_signal_tokens"]
    signals = model.language_model.signals
    new = [modality for modality in signals.modalities if modality not in earlier]
    logger.info("%s knows no %s; that is learned anew", directory, ", ".join(new) or "less")
    prefixes = tuple(f"output_projections.{modality}." for modality in new)
    ours = {k: v for k, v in projection_state(model).items() if k.startswith(prefixes)}
    grown = {}
    for key, values in model.trainable_parts()["signal_rows"].items():
        grown[key] = values.detach().clone()
        start = 0
        for modality in signals.modalities:
            if modality not in new:
                count = signals.num_signal_tokens[modality]
                places = [token - signals.base_size for token in signals.run(modality)]
                grown[key][places] = rows[key][start : start + count].to(grown[key].dtype)
                start += count
    return {**projections, **ours}, grown


def in_precision(chain: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Copy a chain's configuration, with another precision of its frozen parts.

    Raises:
        ValueError: there is no such precision.
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"unknown dtype {dtype!r}; choose from {', '.join(PRECISIONS)}")
    chain = copy.deepcopy(chain)
    options = chain.get("init_args", chain)
    for part in (options["language_model"], *options["decoders"].values()):
        part.get("init_args", part)["dtype"] = dtype
    return chain


def load(directory: str | Path, dtype: str | None = None) -> NextGPTModel:
    """Build the chain that a checkpoint directory describes and read its trained parts.

    Args:
        directory: The checkpoint.
        dtype: Precision of all frozen parts; each part's own by default.

    Raises:
        ValueError: a file is missing or does not fit.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a directory; name a checkpoint directory")
    config = _read(directory, CONFIG, lambda file: yaml.safe_load(file.read_text()))
    if not isinstance(config, dict) or "chain" not in config:
        raise ValueError(f"{directory / CONFIG}: there is no key `chain` in it")
    chain = anchored(config["chain"], directory)
    model = build(in_precision(chain, dtype) if dtype else chain)
    if dtype:
        model.encoder.to(getattr(torch, dtype))
    load_trained(model, directory)
    return model


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


def _facts(provenance: Path) -> tuple[dict[str, int], bool]:
    """Width and vocabulary of the base model, and whether an adapter belongs to the checkpoint."""
    record = _json(provenance)
    return record["language_model"], record.get("adapter", False)


def _read(directory: Path, name: str, read: Any) -> Any:
    file = directory / name
    if not file.exists():
        raise ValueError(f"{file} is missing; copy the checkpoint directory again, whole")
    try:
        return read(file)
    except (SafetensorError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{file} cannot be read ({' '.join(str(error).split())}); copy the checkpoint "
            "directory again"
        ) from error


def projection_state(model: NextGPTModel) -> dict[str, torch.Tensor]:
    """Parameters and statistics of all projections, by their name in the model."""
    return {
        f"{part}.{name}": value
        for part in ("input_projection", "output_projections")
        for name, value in getattr(model, part).state_dict().items()
    }


def trained_state(model: NextGPTModel) -> dict[str, torch.Tensor]:
    """What training changes now, by name: trainable parameters, statistics of their projection."""
    parameters = dict(model.named_parameters())
    state = {name: p for name, p in parameters.items() if p.requires_grad}
    trains = {name.partition(".")[0] for name in state}
    statistics = {
        name: value
        for name, value in projection_state(model).items()
        if name not in parameters and name.partition(".")[0] in trains
    }
    return state | statistics
