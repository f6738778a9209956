"""One system's bridge on tiny parts: the partition, connector, assembler and fusion of its YAML."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tiny_bert import tiny_bert
from tiny_chain import tiny_chain_config
from tiny_encoder import CONFIG

from nextgpt import configuration
from nextgpt.encoders.towers import Trunk
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

FOLDER = Path(__file__).parent.parent / "configs" / "bridges"
OWN = "nextgpt"
"""The system of the chain itself, whose configuration is not among the bridges'."""
SYSTEMS = [OWN, *sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "micro")]
BRIDGE = ("partition", "connector", "assembler", "fusion")
MAP_SIZE = 2
IMAGE_SIZE = 64

QFORMER = {
    "num_queries": 3,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 24,
    "dropout": 0.0,
}
HEADS = {"head_size": 8, "num_heads": 2}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "blip2": {"connector": QFORMER},
    "instructblip": {"connector": QFORMER},
    "flamingo": {
        "connector": {"num_latents": 3, "depth": 1} | HEADS,
        "fusion": {"every_n": 2} | HEADS,
    },
}
"""By system and part, arguments that make its modules tiny."""


def system_config(name: str) -> dict[str, Any]:
    """What the YAML of a system says, with all that it is laid over."""
    file = FOLDER.parent / "nextgpt-7b.yaml" if name == OWN else FOLDER / f"{name}.yaml"
    return configuration.read_config(file)


def tiny_bridge_config(name: str, tiny: TinyParts) -> dict[str, Any]:
    """The ``chain`` of a configuration: a system's bridge between tiny parts."""
    theirs = system_config(name)["model"]["init_args"]["chain"]
    chain = tiny_chain_config(tiny)
    if name != OWN:
        parameters = CONFIG["trunk"]["parameters"] | {"image_size": IMAGE_SIZE}
        arguments = {"trunk": str(_trunk(tiny)), "parameters": parameters, "map_size": MAP_SIZE}
        encoder = {"class_path": "nextgpt.encoders.TrunkMapEncoder", "init_args": arguments}
        chain["encoder"] = encoder
    for part in BRIDGE:
        if part in theirs:
            chain[part] = copy.deepcopy(theirs[part])
            changes = SIZES.get(name, {}).get(part, {})
            arguments = chain[part].get("init_args", {}) | changes
            if "tokenizer" in arguments:
                arguments["tokenizer"] = str(_bert(tiny.trunk.parent.parent / "bridges" / "bert"))
            chain[part]["init_args"] = arguments
    return chain


def _trunk(tiny: TinyParts) -> Path:
    """A trunk whose map differs from picture to picture, which the random one's hardly does."""
    # Not among the tiny parts themselves, which some tests count.
    folder = tiny.trunk.parent.parent / "bridges" / "trunk"
    if not folder.exists():
        folder.mkdir(parents=True)
        trunk = Trunk(**CONFIG["trunk"])
        trunk.load(tiny.trunk)
        for module in trunk.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                module.train()
        generator = torch.Generator().manual_seed(0)
        colours = torch.rand(16, 3, 2, 2, generator=generator) * 2 - 1
        with torch.no_grad():
            trunk.network.extract_features(torch.nn.functional.interpolate(colours, IMAGE_SIZE))
        torch.save(trunk.network.state_dict(), folder / "trunk.pth")
    return folder


def _bert(folder: Path) -> Path:
    return folder if folder.exists() else tiny_bert(folder)


def tiny_bridge(name: str, tiny: TinyParts, seed: int = 0) -> NextGPTModel:
    """A system's chain with all that is new drawn from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return configuration.build(tiny_bridge_config(name, tiny))


def chain_stages(name: str) -> dict[str, list[str]]:
    """What each stage of a system trains of the chain, by its name."""
    config = system_config(name)
    return {
        stage: options["model"]["init_args"]["trains"]
        for stage, options in config["stages"].items()
        if "class_path" not in options["model"]
    }
