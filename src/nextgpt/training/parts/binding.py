"""Binds media to sentences: what the recipes of micro-bind's sides share.

Sentences are MiniLM's, needed for training only.
"""

import hashlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.encoders.micro_bind import TRUNK_SOURCE, MicroBindEncoder
from nextgpt.encoders.towers import Trunk
from nextgpt.modality import Modality
from nextgpt.sources import cache_dir
from nextgpt.training.parts.text_encoder import MINILM, sentence_embeddings
from nextgpt.training.schedule import adamw_with_cosine
from nextgpt.world.scenes import with_article

logger = logging.getLogger(__name__)


def name_vectors(names: list[str], sentences: str = MINILM) -> Tensor:
    """Embed names as captions would say them, less what all of them share.

    Args:
        names: Of things, without an article.
        sentences: Source of MiniLM.

    Returns:
        (N, 384) of length 1.
    """
    embeddings = sentence_embeddings([with_article(name) for name in names], sentences)
    return functional.normalize(embeddings - embeddings.mean(dim=0), dim=-1)


def cached_rows(
    items: list[Item], settings: list[Any], compute: Callable[[list[Item]], Tensor], label: str
) -> Tensor:
    """Compute one row an item, chunk by chunk, keeping the result in the user's cache.

    Args:
        items: What to compute rows of.
        settings: What besides the items decides the rows.
        compute: Called with a few items in turn.
        label: Stands at the progress bar.

    Returns:
        (N, ...) of ``compute``'s type.
    """
    described = [*map(str, settings), *(f"{item.path} {item.caption}" for item in items)]
    digest = hashlib.sha256("\n".join(described).encode()).hexdigest()[:16]
    path = cache_dir() / "tensors" / f"summaries-{digest}.npy"
    if not path.exists():
        starts = tqdm(range(0, len(items), Trunk.CHUNK), desc=label, unit="batch")
        rows = [compute(items[start : start + Trunk.CHUNK]) for start in starts]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, torch.cat(rows).numpy())
        partial.rename(path)
    return torch.from_numpy(np.load(path))


def part_with(
    earlier: MicroBindEncoder, name: str, side: dict[str, Any], trunk: str = TRUNK_SOURCE
) -> MicroBindEncoder:
    """Copy a part with one side new, of these sizes and untrained; the others are as they were."""
    modalities = {**earlier.config["modalities"], name: side}
    part = MicroBindEncoder.from_config(earlier.config | {"modalities": modalities}, trunk)
    for key in modalities.keys() - {name}:
        part.sides[key].load_state_dict(earlier.sides[key].state_dict())
    return part


class BindingData(lightning.LightningDataModule, ABC):
    """What a side sees of the world's media, with the sentences they belong to.

    A batch is [inputs (B, ...), captions (B,), concepts (B,), attributes (B, A)]: indices into
    ``caption_vectors``, ``concept_vectors`` and the values of ``attributes``.
    """

    modality: ClassVar[Modality]
    attributes: ClassVar[dict[str, list[Any]]]
    """What a vector must tell besides the concept: attribute of the manifest -> its values."""
    splits: tuple[str, ...]
    """The first is trained on, the others are validated on."""

    def __init__(self, world: Path | None, sentences: str, batch_size: int, seed: int) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            sentences: MiniLM's source.
            batch_size: Media a step.
            seed: Seed of what is chosen and changed by chance.
        """
        super().__init__()
        self.world = world or cache_dir() / "world"
        self.sentences = sentences
        self.batch_size = batch_size
        self.seed = seed

    @abstractmethod
    def inputs(self, split: str, items: list[Item]) -> Tensor:
        """Compute what the network in training takes, one row an item."""

    def choose_items(self) -> dict[str, list[Item]]:
        """Take the items of each split, those to train on in random order."""
        by_split: dict[str, list[Item]] = {split: [] for split in self.splits}
        for item in read_manifest(self.world / "manifest.jsonl"):
            if item.modality == self.modality and item.split in by_split:
                by_split[item.split].append(item)
        for split, items in by_split.items():
            if not items:
                raise ValueError(
                    f"{self.world}: no {self.modality} of split {split}; rebuild the world"
                )
        random.Random(self.seed).shuffle(by_split["train"])
        return by_split

    def setup(self, stage: str) -> None:
        """Compute the inputs, or read them from the cache, and embed the sentences.

        Raises:
            ValueError: a split of the world has no such media.
        """
        if hasattr(self, "datasets"):
            return
        self.items = self.choose_items()
        chosen = [item for items in self.items.values() for item in items]
        captions = sorted({item.caption for item in chosen})
        self.concepts = sorted({item.concept for item in chosen})
        embeddings = sentence_embeddings(captions, self.sentences)
        trained = {item.caption for item in self.items["train"]}
        mean = embeddings[[caption in trained for caption in captions]].mean(dim=0)
        self.caption_vectors = functional.normalize(embeddings - mean, dim=-1)
        self.concept_vectors = name_vectors(self.concepts, self.sentences)
        caption_places = {caption: place for place, caption in enumerate(captions)}
        self.datasets = {}
        for split, items in self.items.items():
            rows = [
                (
                    caption_places[item.caption],
                    self.concepts.index(item.concept),
                    *(
                        values.index(item.attributes[name])
                        for name, values in self.attributes.items()
                    ),
                )
                for item in items
            ]
            labels = torch.tensor(rows)
            self.datasets[split] = TensorDataset(
                self.inputs(split, items), labels[:, 0], labels[:, 1], labels[:, 2:]
            )

    def train_dataloader(self) -> DataLoader:
        """Shuffled training media."""
        dataset = self.datasets["train"]
        return DataLoader(dataset, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> list[DataLoader]:
        """One loader for every other split."""
        return [DataLoader(self.datasets[split], self.batch_size) for split in self.splits[1:]]


class BindingRecipe(lightning.LightningModule, ABC):
    """Binds media to their captions, and writes the part.

    Three losses: contrast of media and captions within the batch, both ways; the concept among all
    concepts' names; and linear probes, thrown away afterwards, that must read the attributes off
    the vector.
    """

    caption_vectors: Tensor
    concept_vectors: Tensor
    side_config: dict[str, Any]
    """Sizes of the side, as the part's configuration holds them."""

    def __init__(
        self,
        output: Path,
        similarity_scale: float,
        probe_weight: float,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Keep the settings; the network is built when the data are known."""
        super().__init__()
        self.output = Path(output)
        self.similarity_scale = similarity_scale
        self.probe_weight = probe_weight
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    @property
    def data(self) -> BindingData:
        """The data the trainer was given."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, BindingData)
        return data

    @abstractmethod
    def build_network(self, embed_dim: int) -> nn.Module:
        """Build what maps a batch of inputs to (B, embed_dim) vectors of length 1."""

    @abstractmethod
    def part(self, embed_dim: int) -> MicroBindEncoder:
        """Assemble the part with the trained side."""

    def configure_model(self) -> None:
        """Build the network and the probes."""
        if hasattr(self, "network"):
            return
        embed_dim = self.data.caption_vectors.shape[1]
        self.network = self.build_network(embed_dim)
        self.probes = nn.ModuleDict(
            {name: nn.Linear(embed_dim, len(v)) for name, v in self.data.attributes.items()}
        )
        self.register_buffer("caption_vectors", self.data.caption_vectors, persistent=False)
        self.register_buffer("concept_vectors", self.data.concept_vectors, persistent=False)

    def changed(self, inputs: Tensor) -> Tensor:
        """Change training inputs by chance; float32."""
        return inputs.float()

    def _probe(self, name: str, vectors: Tensor) -> Tensor:
        return self.probes[name](vectors * vectors.shape[-1] ** 0.5)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Add up the three losses; see ``BindingData`` for the batch."""
        inputs, captions, concepts, attributes = batch
        vectors = self.network(self.changed(inputs))
        similarities = self.similarity_scale * vectors @ self.caption_vectors[captions].T
        # Media of one caption are no rivals: each counts as an equal share of the right answer.
        same = (captions[:, None] == captions).float()
        shares = same / same.sum(dim=1, keepdim=True)
        contrast = functional.cross_entropy(similarities, shares)
        contrast = (contrast + functional.cross_entropy(similarities.T, shares)) / 2
        concept = functional.cross_entropy(
            self.similarity_scale * vectors @ self.concept_vectors.T, concepts, label_smoothing=0.05
        )
        probes = torch.stack(
            [
                functional.cross_entropy(self._probe(name, vectors), attributes[:, index])
                for index, name in enumerate(self.probes)
            ]
        )
        loss = contrast + concept + self.probe_weight * probes.sum()
        self.log_dict({"loss": loss, "contrast": contrast, "concept": concept}, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log how often concept and attributes are right, for each split."""
        inputs, _, concepts, attributes = batch
        vectors = self.network(inputs.float())
        nearest = (vectors @ self.concept_vectors.T).argmax(dim=-1)
        hits = {"concept": nearest == concepts}
        for index, name in enumerate(self.probes):
            hits[name] = self._probe(name, vectors).argmax(dim=-1) == attributes[:, index]
        split = self.data.splits[1 + dataloader_idx]
        self.log_dict(
            {f"{split}/{name}": hit.float().mean() for name, hit in hits.items()},
            batch_size=len(concepts),
            add_dataloader_idx=False,
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_cosine(self.parameters(), self.learning_rate, steps, self.weight_decay)

    def on_fit_end(self) -> None:
        """Write the part, with what it was trained on and how well it knows each split."""
        accuracy = {
            name: round(float(value), 4)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith(self.data.splits[1:])
        }
        encoder = self.part(self.caption_vectors.shape[1])
        trained_on = encoder.config.setdefault("trained_on", {})
        trained_on[str(self.data.modality)] = {
            "items": len(self.data.datasets["train"]),
            "steps": self.trainer.global_step,
            "accuracy": accuracy,
        }
        encoder.save_pretrained(self.output)
        logger.info("accuracy: %s", accuracy)


class AddedSideRecipe(BindingRecipe):
    """Trains a side that joins a part which has others already."""

    def __init__(
        self,
        encoder: Path = Path("checkpoints/micro/encoder"),
        output: Path = Path("checkpoints/micro/encoder"),
        hidden_dim: int = 256,
        dropout: float = 0.3,
        similarity_scale: float = 20.0,
        probe_weight: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
    ) -> None:
        """Describe the side; it is built when the data are known.

        Args:
            encoder: The part that the side joins.
            output: Directory that receives the part with the side.
            hidden_dim: Width between the head's layers.
            dropout: Share of values the head drops in training.
            similarity_scale: Factor of cosines before the softmax, the inverse of a temperature.
            probe_weight: Weight of each probe's loss.
            learning_rate: Peak learning rate.
            weight_decay: Weight decay of all weights.
        """
        super().__init__(output, similarity_scale, probe_weight, learning_rate, weight_decay)
        self.encoder = Path(encoder)
        self.side_config = {"head": {"hidden_dim": hidden_dim, "dropout": dropout}}

    def part(self, embed_dim: int) -> MicroBindEncoder:
        """Put the trained side beside the others of the part, or in the place of an earlier one."""
        name = str(self.data.modality)
        part = part_with(MicroBindEncoder(str(self.encoder)), name, self.side_config)
        part.sides[name].load_state_dict(self.side_state())
        return part

    @abstractmethod
    def side_state(self) -> dict[str, Tensor]:
        """Return the trained side's weights, by the names they have in the part."""
