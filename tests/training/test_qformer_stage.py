"""The stage before there is a language model: what trains, what is learned, what is handed on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import yaml
from quiet_trainer import quiet_trainer
from tiny_bert import SIZES, tiny_bert
from tiny_encoder import tiny_encoder
from torch import Tensor, nn

from nextgpt import Conversation, Image
from nextgpt.bridges.qformer import QFormerConnector
from nextgpt.data.conversations import MediumToCaption
from nextgpt.data.manifest import Item, write_manifest
from nextgpt.encoders import Encoder, MicroBindEncoder
from nextgpt.media import Medium
from nextgpt.modality import Modality
from nextgpt.training import cli
from nextgpt.training.qformer_data import PairBatches, PairData, pair_of
from nextgpt.training.qformer_stage import QFormerStage

STEPS, BATCH, QUERIES = 40, 4, 3
CAPTIONS = ["a red dog", "the blue cat on the right", "a green car", "what a violin sound"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A BERT, an encoder with its trunk, and six pictures, of which two share their caption."""
    folder = tmp_path_factory.mktemp("pairs")
    tiny_bert(folder / "bert")
    tiny_encoder(folder)
    rng = np.random.default_rng(0)
    items = []
    for number, caption in enumerate([*CAPTIONS, CAPTIONS[0], "this"]):
        # Each of four quarters has its colour.
        picture = rng.integers(0, 256, (2, 2, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
        Image(picture).save(folder / f"{number}.png")
        facts = ("thing", {}, "made by the test", "Apache-2.0", "train")
        items.append(Item(str(number), "image", f"{number}.png", caption, *facts))
    write_manifest(folder / "manifest.jsonl", items)
    return folder


class QuarterEncoder(Encoder):
    """The colours of a picture's quarters, each mapped to a feature."""

    modalities = (Modality.IMAGE,)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 16)
        self.freeze()

    def feature_shape(self, modality: Modality) -> tuple[int, int]:
        return 4, 16

    def preprocess(self, modality: Modality, medium: Medium) -> Tensor:
        self.check(modality, medium)
        assert isinstance(medium, Image)
        return torch.from_numpy(np.asarray(medium.pil, np.float32) / 127.5 - 1)

    def _features(self, modality: Modality, batch: Tensor) -> Tensor:
        quarters = batch.unflatten(1, (2, 16)).unflatten(3, (2, 16)).mean(dim=(2, 4))
        return self.linear(quarters.flatten(1, 2))

    def _description(self) -> dict[str, Any]:
        return {}


def stage(folder: Path, **options: Any) -> QFormerStage:
    torch.manual_seed(0)
    encoder = QuarterEncoder()
    bert = str(folder / "bert")
    connector = partial(
        QFormerConnector, num_queries=QUERIES, **SIZES, tokenizer=bert, source=bert, dropout=0.0
    )
    return QFormerStage(encoder, connector, embedding_size=8, **options)


def data(folder: Path, **options: Any) -> PairData:
    source = MediumToCaption(folder / "manifest.jsonl")
    return PairData([source], [source], batch_size=BATCH, num_validation=2, **options)


class Losses(lightning.Callback):
    """Keeps what every step logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self.rows.append({name: float(v) for name, v in trainer.callback_metrics.items()})


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_all_three_losses_fall_and_exactly_the_qformer_and_its_heads_train(
    folder: Path, tmp_path: Path
) -> None:
    recipe = stage(folder, output=tmp_path / "out", learning_rate=5e-3, weight_decay=0.0)
    losses, before = Losses(), state(recipe)
    trainer = quiet_trainer(tmp_path, STEPS, callbacks=[losses], limit_val_batches=0)
    trainer.fit(recipe, datamodule=data(folder))

    for name in ("contrast", "matching", "caption"):
        first, last = (
            sum(row[name] for row in rows) / 5 for rows in (losses.rows[:5], losses.rows[-5:])
        )
        # measured 0.68, 0.88 and 0.63
        assert last < 0.95 * first, f"{name}: {first} to {last}"
    changed = {n for n, value in recipe.state_dict().items() if not torch.equal(value, before[n])}
    trains = {n for n in before if not n.startswith("encoder.")}
    # A bias of all keys moves no attention.
    still = {n for n in trains - changed if not n.endswith("attention.key.bias")}
    assert changed <= trains
    assert not still
    assert {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]} == {
        id(p) for name, p in recipe.named_parameters() if not name.startswith("encoder.")
    }

    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["steps"] == STEPS
    assert record["encoder"] == recipe.encoder.fingerprint()
    started = QFormerConnector(16, 24, QUERIES, **SIZES, source=str(tmp_path / "out")).eval()
    features = torch.randn(2, 1, 16)
    expected, _ = recipe.qformer.eval()(features)
    assert torch.equal(started.qformer(features)[0], expected)


def test_validation_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    recipe, pairs = stage(folder), data(folder, cache=None)
    trainer = quiet_trainer(tmp_path, 1)
    first, again = (trainer.validate(recipe, pairs, verbose=False)[0] for _ in range(2))
    assert first == again
    names = {"loss", "contrast", "matching", "caption", "found"}
    assert set(first) == {f"validation/{name}" for name in names}


def test_a_resumed_run_goes_on_with_the_pairs_that_are_next(folder: Path, tmp_path: Path) -> None:
    def run(steps: int, path: Path | None = None) -> tuple[QFormerStage, list[list[str]]]:
        recipe, seen = stage(folder), []
        recipe.heads.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2]))
        trainer = quiet_trainer(tmp_path, steps, limit_val_batches=0)
        trainer.fit(recipe, datamodule=data(folder), ckpt_path=path)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return recipe, seen

    _, whole = run(5)
    first, before = run(2)
    trained = state(first.qformer)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert not [name for name in saved["state_dict"] if name.startswith("encoder.")]
    assert not [
        n for n, v in trained.items() if not torch.equal(saved["state_dict"]["qformer." + n], v)
    ]
    _, after = run(5, tmp_path / "last.ckpt")
    assert before + after == whole


def test_a_checkpoint_of_another_qformer_is_refused(folder: Path) -> None:
    saved = {"state_dict": dict(stage(folder).state_dict())}
    with pytest.raises(ValueError, match=r"encoder\.linear"):
        stage(folder).on_load_checkpoint(saved)


def test_no_caption_comes_twice_in_a_batch_and_runs_are_alike(folder: Path) -> None:
    def batches(count: int, **changes: int) -> list[list[str]]:
        made = data(folder).batches
        vars(made).update(limit=count, **changes)
        return [[caption for caption, _ in batch] for batch in made]

    found = batches(8)
    assert all(len(set(batch)) == BATCH for batch in found)
    assert len({caption for batch in found for caption in batch}) == 5
    assert batches(5, num_taken=3) == found[3:]
    assert batches(4, rank=0, num_ranks=2) != batches(4, rank=1, num_ranks=2)


def test_a_batch_is_of_one_modality() -> None:
    class Alternating:
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Conversation:
            from tiny_chain import medium

            shown = medium("audio" if index % 2 else "image", index)
            return Conversation().user(shown).assistant(str(shown.caption))

    batches = list(PairBatches(Alternating(), 2))  # type: ignore[arg-type]
    kinds = [{medium.modality for _, medium in batch} for batch in batches]
    assert [len(kind) for kind in kinds] == [1, 1, 1, 1]
    assert kinds[0] != kinds[1]


def test_the_command_line_trains_it_and_the_next_stage_starts_from_it(
    folder: Path, tmp_path: Path
) -> None:
    bert = str(folder / "bert")
    connector = {"num_queries": QUERIES, **SIZES, "tokenizer": bert, "source": bert}
    source = {
        "class_path": "nextgpt.data.conversations.MediumToCaption",
        "init_args": {"manifest": str(folder / "manifest.jsonl")},
    }
    config = {
        "model": {
            "class_path": "nextgpt.training.qformer_stage.QFormerStage",
            "init_args": {
                "encoder": {
                    "class_path": "nextgpt.encoders.MicroBindEncoder",
                    "init_args": {
                        "source": str(folder / "encoder"),
                        "trunk": str(folder / "trunk"),
                    },
                },
                "connector": {
                    "class_path": "nextgpt.bridges.qformer.QFormerConnector",
                    "init_args": connector,
                },
                "output": str(tmp_path / "out"),
            },
        },
        "data": {
            "class_path": "nextgpt.training.qformer_data.PairData",
            "init_args": {"train": [source], "validation": [source], "batch_size": BATCH},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 2,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 1,
            "val_check_interval": 2,
            "check_val_every_n_epoch": None,
            "logger": False,
            "enable_progress_bar": False,
            "default_root_dir": str(tmp_path),
        },
    }
    (tmp_path / "qformer.yaml").write_text(yaml.safe_dump(config))
    assert cli.run(["fit", "-c", str(tmp_path / "qformer.yaml")]) == 0
    metrics = json.loads((tmp_path / "out" / "provenance.json").read_text())["metrics"]
    assert {"contrast", "validation/matching"} <= set(metrics)
    started = QFormerConnector(16, 24, QUERIES, **SIZES, source=str(tmp_path / "out"))
    assert started(torch.randn(2, 1, 16)).shape == (2, QUERIES, 24)


def test_what_cannot_be_learned_is_refused(folder: Path, tmp_path: Path) -> None:
    encoder = MicroBindEncoder(str(folder / "encoder"), trunk=str(folder / "trunk"))
    with pytest.raises(ValueError, match="connector has no tokenizer"):
        QFormerStage(encoder, partial(QFormerConnector, **SIZES))
    source = MediumToCaption(folder / "manifest.jsonl")
    with pytest.raises(ValueError, match="batch_size is 1"):
        PairData([source], batch_size=1)
    with pytest.raises(ValueError, match="2 weights for 1"):
        PairData([source], weights=[1, 2])
    with pytest.raises(ValueError, match="batch_size is 6, but there are 5 different"):
        quiet_trainer(tmp_path, 1).fit(stage(folder), datamodule=PairData([source], batch_size=6))
    with pytest.raises(ValueError, match="user, assistant with 3 parts"):
        pair_of(Conversation().user("What?", Image(np.zeros((8, 8, 3), np.uint8))).assistant("It"))
