"""Trains the picture side of micro-bind: drawings into the space of sentences.

The trunk is frozen, so every picture passes it once, distorted, and the head learns from the
summaries in seconds. Sentences are MiniLM's, needed for training only.
"""

import hashlib
import io
import logging
import random
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.encoders.heads import BindingHead
from nextgpt.encoders.micro_bind import TRUNK_SOURCE, MicroBindEncoder
from nextgpt.encoders.towers import Trunk, pixels
from nextgpt.sources import cache_dir, resolve
from nextgpt.training.parts.text_encoder import MINILM, sentence_embeddings
from nextgpt.training.schedule import adamw_with_cosine
from nextgpt.world.scenes import COLOURS, COUNT_WORDS, PLACE_PHRASES, with_article

logger = logging.getLogger(__name__)

ATTRIBUTES: dict[str, list[Any]] = {
    "background": list(COLOURS),
    "place": ["centre", *PLACE_PHRASES],
    "size": ["small", "medium", "large"],
    "count": list(COUNT_WORDS),
}
"""What a vector must tell besides the concept: attribute of the manifest -> its values."""

SPLITS = ("train", "validation", "held_out_drawing")


def distort(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Change a drawing as files do on their way: turned, tinted, scaled down, compressed.

    Neither the background's name, nor place, size and count change.
    """
    if rng.random() < 0.5:
        background = picture.getpixel((0, 0))
        angle = rng.uniform(-10, 10)
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=background)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(0.88, 1.12))
    if rng.random() < 1 / 3:
        side = rng.randint(64, 112)
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=rng.randint(40, 95))
        picture = Image.open(buffer).convert("RGB")
    return picture


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


class BindingData(lightning.LightningDataModule):
    """Summaries of the world's pictures with the sentences they belong to.

    A batch is [summaries (B, summary_dim), captions (B,), concepts (B,), attributes (B, 4)]:
    indices into ``caption_vectors``, ``concept_vectors`` and the values of ``ATTRIBUTES``.
    """

    def __init__(
        self,
        world: Path | None = None,
        trunk: str = TRUNK_SOURCE,
        trunk_name: str = "efficientnet-lite0",
        trunk_parameters: dict[str, Any] | None = None,
        sentences: str = MINILM,
        pictures_per_drawing: int = 10,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            trunk: Weights of the ImageNet trunk.
            trunk_name: Its architecture.
            trunk_parameters: Changes of its sizes.
            sentences: MiniLM's source.
            pictures_per_drawing: Training pictures taken of each drawing; more take longer to
                summarise (25 a second on one core).
            batch_size: Pictures a step.
            seed: Seed of the choice of pictures and of their distortions.
        """
        super().__init__()
        self.world = world or cache_dir() / "world"
        self.trunk_source = trunk
        self.trunk_config: dict[str, Any] = {
            "name": trunk_name,
            "parameters": trunk_parameters or {},
        }
        self.sentences = sentences
        self.pictures_per_drawing = pictures_per_drawing
        self.batch_size = batch_size
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Summarise the pictures, or read their summaries from the cache, and embed the sentences.

        Raises:
            ValueError: a split of the world has no pictures.
        """
        if hasattr(self, "datasets"):
            return
        by_split = self._choose_items()
        captions = sorted({item.caption for items in by_split.values() for item in items})
        self.concepts = sorted({item.concept for items in by_split.values() for item in items})
        embeddings = sentence_embeddings(captions, self.sentences)
        trained = {item.caption for item in by_split["train"]}
        mean = embeddings[[caption in trained for caption in captions]].mean(dim=0)
        self.caption_vectors = functional.normalize(embeddings - mean, dim=-1)
        self.concept_vectors = name_vectors(self.concepts, self.sentences)
        trunk = Trunk(**self.trunk_config)
        trunk.load(resolve(self.trunk_source))
        self.num_classes = trunk.num_classes
        artists = [item.attributes["drawing"].split("/")[0] for item in by_split["train"]]
        self.artists = torch.tensor([sorted(set(artists)).index(artist) for artist in artists])
        self.datasets = {}
        for split, items in by_split.items():
            rows = [
                (
                    captions.index(item.caption),
                    self.concepts.index(item.concept),
                    *(ATTRIBUTES[name].index(item.attributes[name]) for name in ATTRIBUTES),
                )
                for item in items
            ]
            labels = torch.tensor(rows)
            summaries = self._summaries(split, items, trunk)
            self.datasets[split] = TensorDataset(
                summaries, labels[:, 0], labels[:, 1], labels[:, 2:]
            )

    def class_vectors(self) -> Tensor:
        """Embed ImageNet's class names: (num_classes, 384), centred, not normalised."""
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        synonyms = [info.index_to_description(index) for index in range(self.num_classes)]
        return name_vectors([names.split(",")[0].lower() for names in synonyms], self.sentences)

    def _choose_items(self) -> dict[str, list[Item]]:
        rng = random.Random(self.seed)
        by_split: dict[str, list[Item]] = {split: [] for split in SPLITS}
        for item in read_manifest(self.world / "manifest.jsonl"):
            if item.modality == "image" and item.split in by_split:
                by_split[item.split].append(item)
        for split, items in by_split.items():
            if not items:
                raise ValueError(f"{self.world}: no pictures of split {split}; rebuild the world")
        rng.shuffle(by_split["train"])
        by_drawing: dict[str, list[Item]] = {}
        for item in by_split["train"]:
            by_drawing.setdefault(item.attributes["drawing"], []).append(item)
        by_split["train"] = [
            item for items in by_drawing.values() for item in items[: self.pictures_per_drawing]
        ]
        return by_split

    def _summaries(self, split: str, items: list[Item], trunk: Trunk) -> Tensor:
        """Summarise pictures once, training pictures distorted: (N, summary_dim) float32."""
        named = [str(self.trunk_source), str(self.trunk_config), str(self.seed), str(self.world)]
        key = "\n".join([*named, *(f"{item.path} {item.caption}" for item in items)])
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = cache_dir() / "tensors" / f"summaries-{split}-{digest}.npy"
        if not path.exists():
            rng = random.Random(self.seed)
            rows = []
            starts = range(0, len(items), Trunk.CHUNK)
            for start in tqdm(starts, desc=f"summarising {split}", unit="batch"):
                batch = []
                for item in items[start : start + Trunk.CHUNK]:
                    with Image.open(self.world / item.path) as file:
                        picture = file.convert("RGB")
                    if split == "train":
                        picture = distort(picture, rng)
                    batch.append(pixels(picture, trunk.image_size))
                rows.append(trunk(torch.stack(batch)).half())
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, torch.cat(rows).numpy())
            partial.rename(path)
        return torch.from_numpy(np.load(path)).float()

    def train_dataloader(self) -> DataLoader:
        """Shuffled training pictures."""
        dataset = self.datasets["train"]
        return DataLoader(dataset, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> list[DataLoader]:
        """Other compositions of the trained drawings; drawings by an artist never trained on."""
        return [DataLoader(self.datasets[split], self.batch_size) for split in SPLITS[1:]]


class BindingRecipe(lightning.LightningModule):
    """Binds drawings to their captions, and writes the part.

    Three losses: contrast of pictures and captions within the batch, both ways; the concept among
    all concepts' names; and linear probes, thrown away afterwards, that must read background,
    place, size and count off the vector.
    """

    caption_vectors: Tensor
    concept_vectors: Tensor

    def __init__(
        self,
        output: Path = Path("checkpoints/micro/encoder"),
        start_from: Path | None = None,
        hidden_dim: int = 512,
        dropout: float = 0.4,
        gate_rank: int = 128,
        num_classes_averaged: int = 10,
        similarity_scale: float = 20.0,
        probe_weight: float = 0.3,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
    ) -> None:
        """Describe the head; it is built when the data are known.

        Args:
            output: Directory that receives the part.
            start_from: Directory of a part of the same sizes whose head to go on from.
            hidden_dim: Width between the head's layers.
            dropout: Share of values the head drops in training.
            gate_rank: Principal directions in which drawings are told from photographs.
            num_classes_averaged: ImageNet classes a photograph's vector is made of.
            similarity_scale: Factor of cosines before the softmax, the inverse of a temperature.
            probe_weight: Weight of each probe's loss.
            learning_rate: Peak learning rate.
            weight_decay: Weight decay of all weights.
        """
        super().__init__()
        self.save_hyperparameters(ignore=["output", "start_from"])
        self.output, self.start_from = Path(output), start_from
        self.similarity_scale = similarity_scale
        self.probe_weight = probe_weight

    @property
    def data(self) -> BindingData:
        """The data the trainer was given."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, BindingData)
        return data

    def configure_model(self) -> None:
        """Build the head and the probes."""
        if hasattr(self, "head"):
            return
        input_dim = self.data.datasets["train"].tensors[0].shape[1]
        embed_dim = self.data.caption_vectors.shape[1]
        options = self.hparams
        self.head = BindingHead(input_dim, embed_dim, options["hidden_dim"], options["dropout"])
        if self.start_from is not None:
            earlier = MicroBindEncoder(str(self.start_from), self.data.trunk_source)
            self.head.load_state_dict(earlier.image.head.state_dict())
        self.probes = nn.ModuleDict(
            {name: nn.Linear(embed_dim, len(values)) for name, values in ATTRIBUTES.items()}
        )
        self.register_buffer("caption_vectors", self.data.caption_vectors, persistent=False)
        self.register_buffer("concept_vectors", self.data.concept_vectors, persistent=False)

    def _probe(self, name: str, vectors: Tensor) -> Tensor:
        return self.probes[name](vectors * vectors.shape[-1] ** 0.5)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Add up the three losses; see ``BindingData`` for the batch."""
        summaries, captions, concepts, attributes = batch
        vectors = self.head(summaries)
        similarities = self.similarity_scale * vectors @ self.caption_vectors[captions].T
        # Pictures of one caption are no rivals: each counts as an equal share of the right answer.
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
                for index, name in enumerate(ATTRIBUTES)
            ]
        )
        loss = contrast + concept + self.probe_weight * probes.sum()
        self.log_dict({"loss": loss, "contrast": contrast, "concept": concept}, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log how often concept and attributes are right, for each split."""
        summaries, _, concepts, attributes = batch
        vectors = self.head(summaries)
        nearest = (vectors @ self.concept_vectors.T).argmax(dim=-1)
        hits = {"concept": nearest == concepts}
        for index, name in enumerate(ATTRIBUTES):
            hits[name] = self._probe(name, vectors).argmax(dim=-1) == attributes[:, index]
        split = SPLITS[1 + dataloader_idx]
        self.log_dict(
            {f"{split}/{name}": hit.float().mean() for name, hit in hits.items()},
            batch_size=len(concepts),
            add_dataloader_idx=False,
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        options = self.hparams
        return adamw_with_cosine(
            self.parameters(), options["learning_rate"], steps, options["weight_decay"]
        )

    def on_fit_end(self) -> None:
        """Assemble the part, with the gate fitted on the training drawings, and write it."""
        options = self.hparams
        accuracy = {
            name: round(float(value), 4)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith(SPLITS[1:])
        }
        config = {
            "part": "micro-bind",
            "embed_dim": self.caption_vectors.shape[1],
            "trunk": self.data.trunk_config,
            "modalities": {
                "image": {
                    "head": {key: options[key] for key in ("hidden_dim", "dropout")},
                    "num_classes_averaged": options["num_classes_averaged"],
                    "gate_rank": options["gate_rank"],
                }
            },
            "trained_on": {
                "pictures": len(self.data.datasets["train"]),
                "steps": self.trainer.global_step,
                "accuracy": accuracy,
            },
        }
        encoder = MicroBindEncoder.from_config(config, self.data.trunk_source)
        side = encoder.image
        side.head.load_state_dict(self.head.state_dict())
        side.class_vectors.copy_(self.data.class_vectors())
        features = self.data.datasets["train"].tensors[0][:, : side.trunk.dim]
        side.gate.fit(features, self.data.artists)
        encoder.save_pretrained(self.output)
        logger.info("accuracy: %s", accuracy)
