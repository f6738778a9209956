"""How the recipes keep what they ship small."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def halve(folder: Path) -> None:
    """Store a transformers model's weights as float16, to be read back as float32.

    NOTE: transformers reads weights in the type that the configuration names, and diffusers reads
    float16 files as float32: so a pipeline of both is of one type and runs anywhere.

    Args:
        folder: What ``save_pretrained`` of the model wrote.
    """
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in load_file(folder / WEIGHTS).items()
    }
    partial = folder / f"{WEIGHTS}.partial"
    save_file(halves, partial, metadata={"format": "pt"})
    partial.replace(folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
