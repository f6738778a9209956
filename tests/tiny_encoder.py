"""A micro-bind part with all three sides, tiny and random, and the trunk it stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "trunk": {
        "name": "efficientnet-lite0",
        "parameters": {"image_size": 32, "num_classes": 12, "width_coefficient": 0.1},
    },
    "modalities": {
        "image": {"head": {"hidden_dim": 32}, "num_classes_averaged": 3, "gate_rank": 4},
        "audio": {
            "head": {"hidden_dim": 32},
            "num_windows": 2,
            "window_s": 0.32,
            "num_mels": 16,
            "channels": [8, 8],
        },
        "video": {"head": {"hidden_dim": 32}, "num_frames": 2},
    },
}


def tiny_encoder(directory: Path) -> tuple[Path, Path]:
    """Fill ``directory`` with a part and a trunk.

    Returns:
        The part's folder and the trunk's.
    """
    from efficientnet_lite_pytorch import EfficientNet

    from nextgpt.encoders import MicroBindEncoder

    trunk = directory / "trunk"
    trunk.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EfficientNet.from_name(CONFIG["trunk"]["name"], **CONFIG["trunk"]["parameters"])
        torch.save(network.state_dict(), trunk / "trunk.pth")
        encoder = MicroBindEncoder.from_config(CONFIG, str(trunk))
        torch.nn.init.normal_(encoder.image.class_vectors)
    return encoder.save_pretrained(directory / "encoder"), trunk
