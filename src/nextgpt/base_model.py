"""Language models of transformers as they are published: where they lie, how they are loaded."""

import logging
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from nextgpt import architectures, sources

logger = logging.getLogger(__name__)


def converted_from_gguf(file: Path) -> Path:
    """Turn a quantised GGUF file into a safetensors directory in the user's cache, once.

    Takes about 20 s for 135 M parameters; later calls return at once.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = sources.cache_dir() / "converted" / f"{file.stem}-{file.stat().st_size}"
    if (folder / "model.safetensors").exists():
        return folder
    logger.info("converting %s to safetensors (once, about 20 s)", file.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        options = {"gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        quantised = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, **options
        )
        # NOTE: a model read from GGUF refuses to be saved; an equal plain one does not.
        del quantised.config.quantization_config
        plain = AutoModelForCausalLM.from_config(quantised.config)
        plain.load_state_dict(quantised.state_dict())
        tokenizer.save_pretrained(partial)
        plain.save_pretrained(partial)
        shutil.copytree(partial, folder, dirs_exist_ok=True)
    return folder


def model_directory(source: str) -> Path:
    """Return a local directory that transformers loads, converting GGUF where that is all there is.

    Raises:
        ValueError: the source holds neither ``config.json`` nor a GGUF file.
    """
    folder = sources.resolve(source)
    if (folder / "config.json").exists():
        return folder
    files = sorted(folder.rglob("*.gguf"))
    if not files:
        raise ValueError(f"{source}: neither config.json nor a .gguf file in {folder}")
    return converted_from_gguf(files[0])


def tokenizer_of(folder: Path) -> Any:
    """Load a tokenizer; None where a folder describes a model and has none."""
    from transformers import AutoTokenizer

    if architectures.weightless() and not any(folder.glob("tokenizer*")):
        return None
    return AutoTokenizer.from_pretrained(folder)


def quantised(kind: str | None) -> dict[str, Any]:
    """Options of ``from_pretrained`` for frozen weights in 8 or 4 bits, by bitsandbytes.

    Raises:
        ValueError: the package or a GPU is missing.
    """
    if kind is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise ValueError(
            f"quantization {kind} needs bitsandbytes: pip install 'nextgpt[quantization]'"
        )
    if not torch.cuda.is_available():
        raise ValueError(
            f"quantization {kind} needs a CUDA GPU, and there is none; leave it out, or hold the "
            "weights in dtype: bfloat16"
        )
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_8bit=kind == "8bit",
        load_in_4bit=kind == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    # NOTE: the weights are quantised on the GPU that they are loaded to: each rank has its own.
    gpu = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    return {"quantization_config": config, "device_map": {"": gpu}}


def model_of(folder: Path, dtype: torch.dtype, quantization: str | None) -> Any:
    """Load a model, or its shapes alone where parts are built without weights.

    Raises:
        ValueError: the quantization is unknown, or not possible here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if quantization not in (None, "8bit", "4bit"):
        raise ValueError(f"unknown quantization {quantization!r}; choose 8bit or 4bit")
    if architectures.weightless():
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
    options = quantised(quantization)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)


def described_directory(source: str) -> Path:
    """Return ``model_directory``, or where parts are built without weights what describes it."""
    if architectures.weightless():
        folder = architectures.configuration_folder(source)
        if (folder / "config.json").exists():
            return folder
    return model_directory(source)
