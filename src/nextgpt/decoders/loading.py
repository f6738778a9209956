"""One diffusers pipeline on disk: its files, its components and their place, loaded when used."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch

from nextgpt.architectures import configuration_folder, weightless
from nextgpt.decoders.components import component_class, without_weights
from nextgpt.decoders.quiet import quiet_loading
from nextgpt.modality import Modality
from nextgpt.sources import resolve

Solver = Literal["pipeline", "multistep"]

_STRICT_COMPONENTS = ("tokenizer", "text_encoder", "unet", "vae", "vocoder")


class PipelineParts:
    """The frozen components of one pipeline.

    Safe to use from several threads: they wait for each other, because a pipeline keeps the state
    of its run in its scheduler. Copies and pickles carry the settings and load the weights anew.
    """

    modality: ClassVar[Modality]
    pipeline_class: ClassVar[str]
    """Name of the class in diffusers that ``model_index.json`` must ask for."""

    def __init__(
        self, source: str, dtype: Literal["float32", "float16", "bfloat16"], solver: Solver
    ) -> None:
        """Name the directory, the type of its weights and its solver; nothing is loaded."""
        self.source = source
        self.solver = solver
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = torch.device("cpu")
        self._unload()

    def _unload(self) -> None:
        self._lock = threading.RLock()
        self._components: dict[str, Any] = {}
        self._pipeline: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._unload()

    def to(self, device: torch.device | str) -> Self:
        """Move what is loaded, and what will be, to ``device``; return the decoder itself."""
        with self._lock:
            self.device = torch.device(device)
            for component in self._components.values():
                if isinstance(component, torch.nn.Module):
                    component.to(self.device)
        return self

    def unload(self) -> None:
        """Forget the weights; the next use loads them anew."""
        with self._lock:
            self._components.clear()
            self._pipeline = None

    @cached_property
    def directory(self) -> Path:
        """Local diffusers directory; fetched on first use if the source is not local.

        Raises:
            ValueError: the directory does not hold a pipeline of this decoder's class.
        """
        return self._of_its_class(resolve(self.source))

    @cached_property
    def configuration(self) -> Path:
        """Directory with the pipeline's configuration files, which may have no weights.

        Raises:
            ValueError: as ``directory``.
        """
        if weightless():
            return self._of_its_class(configuration_folder(self.source))
        return self.directory

    def _of_its_class(self, directory: Path) -> Path:
        class_name = read_json(directory / "model_index.json").get("_class_name")
        if class_name != self.pipeline_class:
            raise ValueError(
                f"{directory} holds a {class_name}, but the {self.modality} decoder needs a "
                f"{self.pipeline_class}: give the source of one"
            )
        return directory

    def _config(self, component: str) -> dict[str, Any]:
        return read_json(self.configuration / component / "config.json")

    def fingerprint(self) -> str:
        """Return a SHA-256 over the pipeline's weights and configuration, file by file."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        index = read_json(self.directory / "model_index.json")
        digest = hashlib.sha256(json.dumps(index, sort_keys=True).encode())
        for name in sorted(name for name in index if (self.directory / name).is_dir()):
            files = sorted((self.directory / name).iterdir())
            # As diffusers does: a .bin beside a .safetensors is an older copy, never loaded.
            weights = "safetensors" if any(f.suffix == ".safetensors" for f in files) else "bin"
            for file in files:
                if file.suffix in {".json", ".txt", ".model", f".{weights}"}:
                    with file.open("rb") as stream:
                        file_hash = hashlib.file_digest(stream, "sha256").hexdigest()
                    digest.update(f"{name}/{file.name} {file_hash}\n".encode())
        return digest.hexdigest()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock, torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            yield

    def _loaded_pipeline(self) -> Any:
        if self._pipeline is None:
            import diffusers

            index = read_json(self.directory / "model_index.json")
            names = [name for name in _STRICT_COMPONENTS if name in index]
            components = {name: self._component(name) for name in names}
            with quiet_loading():
                pipeline = getattr(diffusers, self.pipeline_class).from_pretrained(
                    self.directory, dtype=self.dtype, **components
                )
            self._adapt(pipeline)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline.to(self.device)
        return self._pipeline

    def _adapt(self, pipeline: Any) -> None:
        """Exchange what the settings ask to exchange."""
        from diffusers import DPMSolverMultistepScheduler

        if self.solver == "multistep":
            pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
                pipeline.scheduler.config, algorithm_type="dpmsolver++", solver_order=2
            )

    def models_without_weights(self) -> dict[str, torch.nn.Module]:
        """Build the pipeline's models from their configurations, under ``torch.device("meta")``."""
        index = read_json(self.configuration / "model_index.json")
        folders = {name: self.configuration / name for name in index}
        with quiet_loading():
            return {
                name: without_weights(component_class(*index[name]), folder)
                for name, folder in folders.items()
                if (folder / "config.json").exists()
            }

    def _component(self, name: str) -> Any:
        """Load one component of the pipeline, once.

        Raises:
            ValueError: weights are missing. diffusers and transformers would only warn, and go
                on with random or absent ones.
        """
        if name not in self._components:
            index = read_json(self.directory / "model_index.json")
            chosen = component_class(*index[name])
            folder = self.directory / name
            # NOTE: weights loaded in inference mode could never again be part of a backward pass.
            with quiet_loading(), torch.inference_mode(False):
                if name in ("tokenizer", "scheduler"):
                    component = chosen.from_pretrained(folder)
                else:
                    component, report = chosen.from_pretrained(
                        folder, dtype=self.dtype, output_loading_info=True
                    )
                    if report["missing_keys"]:
                        missing = ", ".join(sorted(report["missing_keys"]))
                        raise ValueError(f"{folder}: weights missing: {missing}; fetch it again")
                    component = component.to(self.device).eval().requires_grad_(False)
            self._components[name] = component
        return self._components[name]


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a pipeline's configuration.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): a decoder's source must be a diffusers directory"
        ) from error
