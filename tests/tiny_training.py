"""Three stages of training at tiny random size: world, configuration, and what must train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tiny_chain import FEEDFORWARD, HIDDEN, LORA_RANK, NUM_SIGNAL_TOKENS, tiny_chain_config

from nextgpt import Audio, Image, Video
from nextgpt.data.manifest import Item, write_manifest

if TYPE_CHECKING:
    from conftest import TinyParts

STEPS = 6
RESUMED_AT = 3
STAGES = {
    "encode_align": ["input_projection"],
    "decode_align": ["output_projections", "signal_rows"],
    "instruct": ["lora", "input_projection", "output_projections", "signal_rows"],
}
CONDITIONING_SHAPES = {"image": (8, 32), "audio": (1, 32), "video": (8, 32)}
LM_WIDTH, FEATURE_WIDTH, LM_LAYERS = 32, 16, 2

CAPTIONS = {
    "image": ["a dog on a blue background", "a cat on a red background"],
    "audio": ["the sound of a violin, low and slow"],
    "video": ["a rocket moves up", "a car moves to the right"],
}


def write_world(folder: Path) -> Path:
    """A manifest of a few small files of every medium, each in both splits."""
    rng = np.random.default_rng(0)
    items = []
    for modality, captions in CAPTIONS.items():
        for number, caption in enumerate(captions):
            name = f"{modality}-{number}"
            if modality == "image":
                path = Image(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(
                    folder / f"{name}.png"
                )
            elif modality == "audio":
                noise = rng.uniform(-0.5, 0.5, 8_000).astype(np.float32)
                path = Audio(noise, sample_rate_hz=16_000).save(folder / f"{name}.wav")
            else:
                frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
                path = Video(frames, frames_per_second=4).save(folder / f"{name}.mp4")
            items += [
                Item(
                    f"{name}-{split}",
                    modality,
                    path.name,
                    caption,
                    caption.split()[1],
                    {},
                    "made by the test",
                    "Apache-2.0",
                    split,
                )
                for split in ("train", "validation")
            ]
    write_manifest(folder / "manifest.jsonl", items)
    return folder / "manifest.jsonl"


def configuration(tiny: TinyParts, manifest: Path) -> dict[str, Any]:
    """A model of tiny parts in the format of configs/micro.yaml."""

    def sources(name: str, split: str) -> dict[str, Any]:
        arguments = {"manifest": str(manifest), "split": split}
        return {"class_path": f"nextgpt.data.conversations.{name}", "init_args": arguments}

    stages: dict[str, Any] = {}
    parent = None
    for stage, trains in STAGES.items():
        names = {
            "encode_align": ["MediumToCaption"],
            "decode_align": ["CaptionToMedium"],
            "instruct": ["MediumToCaption", "CaptionToMedium"],
        }[stage]
        model = {"trains": trains, "start_from": parent, "output": f"runs/{stage}/model"}
        callback = {"class_path": "recorder.Recorder", "init_args": {"folder": f"runs/{stage}"}}
        stages[stage] = {
            "model": {"init_args": model},
            "data": {
                "init_args": {
                    "train": [sources(name, "train") for name in names],
                    "validation": [sources(name, "validation") for name in names],
                }
            },
            "trainer": {"default_root_dir": f"runs/{stage}", "callbacks": [callback]},
        }
        parent = model["output"]
    return {
        "model": {
            "class_path": "nextgpt.training.stage.Stage",
            "init_args": {
                "trains": [],
                "start_from": parent,
                "learning_rate": 0.01,
                "chain": tiny_chain_config(tiny),
            },
        },
        "data": {
            "class_path": "nextgpt.data.datamodule.ChainData",
            "init_args": {"batch_size": 6, "num_validation": 4},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": STEPS,
            "check_val_every_n_epoch": None,
            "val_check_interval": STEPS,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "runs"},
            },
        },
        "seed_everything": 0,
        "stages": stages,
    }


def transformer_shapes(conditioning_shape: tuple[int, int]) -> dict[str, list[int]]:
    """Parameters of one output projection, written down by hand from the architecture."""
    length, width = conditioning_shape
    norm = {"weight": [HIDDEN], "bias": [HIDDEN]}
    attention = {
        "in_proj_weight": [3 * HIDDEN, HIDDEN],
        "in_proj_bias": [3 * HIDDEN],
        "out_proj.weight": [HIDDEN, HIDDEN],
        "out_proj.bias": [HIDDEN],
    }
    feedforward = {
        "linear1.weight": [FEEDFORWARD, HIDDEN],
        "linear1.bias": [FEEDFORWARD],
        "linear2.weight": [HIDDEN, FEEDFORWARD],
        "linear2.bias": [HIDDEN],
    }
    shapes = {
        "queries": [1, length, HIDDEN],
        "input.weight": [HIDDEN, LM_WIDTH],
        "input.bias": [HIDDEN],
        "output.weight": [width, HIDDEN],
        "output.bias": [width],
    }
    blocks: dict[str, tuple[list[str], int]] = {
        "encoder": (["self_attn"], 2),
        "decoder": (["self_attn", "multihead_attn"], 3),
    }
    for side, (attentions, num_norms) in blocks.items():
        layer = dict(feedforward)
        for name in attentions:
            layer |= {f"{name}.{key}": shape for key, shape in attention.items()}
        for number in range(1, num_norms + 1):
            layer |= {f"norm{number}.{key}": shape for key, shape in norm.items()}
        shapes |= {f"{side}.layers.0.{key}": shape for key, shape in layer.items()}
        shapes |= {f"{side}.norm.{key}": shape for key, shape in norm.items()}
    return shapes


def expected_statistics() -> set[str]:
    """Names of what is not a parameter and still follows the training batches."""
    return {
        f"chain.output_projections.{modality}.standardise.{name}"
        for modality in CONDITIONING_SHAPES
        for name in ("mean", "variance", "num_batches")
    }


def expected_trainable() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the trainable parameters of each part."""
    layers = "chain.language_model.llm.model.layers"
    return {
        "input_projection": {
            "chain.input_projection.linear.weight": [LM_WIDTH, FEATURE_WIDTH],
            "chain.input_projection.linear.bias": [LM_WIDTH],
        },
        "signal_rows": {
            "chain.language_model.signal_rows.input": [sum(NUM_SIGNAL_TOKENS.values()), LM_WIDTH]
        },
        "output_projections": {
            f"chain.output_projections.{modality}.{name}": shape
            for modality, conditioning_shape in CONDITIONING_SHAPES.items()
            for name, shape in transformer_shapes(conditioning_shape).items()
        },
        "lora": {
            f"{layers}.{layer}.self_attn.{target}.lora_{side}.default.weight": shape
            for layer in range(LM_LAYERS)
            for target in ("q_proj", "v_proj")
            for side, shape in (("A", [LORA_RANK, LM_WIDTH]), ("B", [LM_WIDTH, LORA_RANK]))
        },
    }
