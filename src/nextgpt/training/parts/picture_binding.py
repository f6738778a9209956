"""Trains the picture side of micro-bind: drawings into the space of sentences.

The trunk is frozen, so every picture passes it once, distorted, and the head learns from the
summaries in seconds.
"""

import io
import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor, nn

from nextgpt.data.manifest import Item
from nextgpt.data.own_media import OwnMedia
from nextgpt.decoders import ImageDecoder
from nextgpt.encoders.heads import BindingHead
from nextgpt.encoders.micro_bind import TRUNK_SOURCE, MicroBindEncoder
from nextgpt.encoders.towers import Trunk, pixels
from nextgpt.modality import Modality
from nextgpt.sources import resolve
from nextgpt.training.parts.binding import (
    BindingData,
    BindingRecipe,
    cached_rows,
    name_vectors,
    part_with,
)
from nextgpt.training.parts.text_encoder import MINILM
from nextgpt.world.scenes import COLOURS, COUNT_WORDS, PLACE_PHRASES

ATTRIBUTES: dict[str, list[Any]] = {
    "background": list(COLOURS),
    "place": ["centre", *PLACE_PHRASES],
    "size": ["small", "medium", "large"],
    "count": list(COUNT_WORDS),
}
"""What a vector must tell besides the concept: attribute of the manifest -> its values."""


def distort(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Change a drawing as files do on their way: turned, tinted, blurred, scaled, compressed.

    Neither the background's name, nor place, size and count change.
    """
    if rng.random() < 0.5:
        background = picture.getpixel((0, 0))
        angle = rng.uniform(-10, 10)
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=background)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(0.88, 1.12))
    if rng.random() < 1 / 4:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, picture.width / 64)))
    if rng.random() < 1 / 3:
        side = rng.randint(64, 112)
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=rng.randint(40, 95))
        picture = Image.open(buffer).convert("RGB")
    return picture


class PictureBindingData(BindingData):
    """Summaries of the world's pictures, training pictures distorted, with their sentences."""

    modality = Modality.IMAGE
    attributes = ATTRIBUTES
    splits: tuple[str, ...] = ("train", "validation", "held_out_drawing")

    def __init__(
        self,
        world: Path | None = None,
        trunk: str = TRUNK_SOURCE,
        trunk_name: str = "efficientnet-lite0",
        trunk_parameters: dict[str, Any] | None = None,
        sentences: str = MINILM,
        pictures_per_drawing: int = 10,
        decoder: ImageDecoder | None = None,
        num_own: int = 0,
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
            decoder: Draws pictures of the world's captions too: the model sees its own replies in
                the turns that follow.
            num_own: Training pictures that it draws.
            batch_size: Pictures a step.
            seed: Seed of the choice of pictures and of their distortions.
        """
        super().__init__(world, sentences, batch_size, seed)
        self.trunk_source = trunk
        self.trunk_config: dict[str, Any] = {
            "name": trunk_name,
            "parameters": trunk_parameters or {},
        }
        self.pictures_per_drawing = pictures_per_drawing
        self.decoder = decoder
        self.num_own = num_own

    def setup(self, stage: str) -> None:
        """Load the trunk as well."""
        if hasattr(self, "datasets"):
            return
        self.trunk = Trunk(**self.trunk_config)
        self.trunk.load(resolve(self.trunk_source))
        super().setup(stage)

    def artists(self) -> Tensor:
        """Number the hands that drew the training pictures, (N,)."""
        names = [item.attributes["drawing"].split("/")[0] for item in self.items["train"]]
        return torch.tensor([sorted(set(names)).index(name) for name in names])

    def class_vectors(self) -> Tensor:
        """Embed ImageNet's classes by name and definition: (num_classes, 384) of length 1.

        The name alone says little: a sorrel is a horse, a drake a duck.
        """
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        described = []
        for index in range(self.trunk.num_classes):
            names, definition = info.index_to_description(index, detailed=True).split(":", 1)
            described.append(f"{names.split(',')[0].lower()}, {definition.strip()}")
        return name_vectors(described, self.sentences)

    def choose_items(self) -> dict[str, list[Item]]:
        """Take as many training pictures of each drawing as asked."""
        by_split = super().choose_items()
        by_drawing: dict[str, list[Item]] = {}
        for item in by_split["train"]:
            by_drawing.setdefault(item.attributes["drawing"], []).append(item)
        by_split["train"] = [
            item for items in by_drawing.values() for item in items[: self.pictures_per_drawing]
        ]
        if self.decoder is not None:
            by_split["train"] += self._own("train", self.num_own)
            by_split["own_validation"] = self._own("validation", self.num_own // 10)
            self.splits = (*type(self).splits, "own_validation")
        return by_split

    def _own(self, split: str, number: int) -> list[Item]:
        assert self.decoder is not None, "somebody has to draw them"
        manifest = self.world / "manifest.jsonl"
        own = OwnMedia(manifest, split, [self.modality], number, self.seed + 1)
        own.render({self.modality: self.decoder})
        return own.items

    def inputs(self, split: str, items: list[Item]) -> Tensor:
        """Summarise pictures once: (N, summary_dim) float16."""
        rng = random.Random(self.seed)

        def summarised(chunk: list[Item]) -> Tensor:
            batch = []
            for item in chunk:
                with Image.open(self.world / item.path) as file:
                    picture = file.convert("RGB")
                if split == "train":
                    picture = distort(picture, rng)
                batch.append(pixels(picture, self.trunk.image_size))
            return self.trunk(torch.stack(batch)).half()

        settings = [self.trunk_source, self.trunk_config, self.seed, self.world]
        return cached_rows(items, settings, summarised, f"summarising {split}")


class PictureBindingRecipe(BindingRecipe):
    """The head of the picture side, and the gate behind it; writes the whole part."""

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
            start_from: Directory of a part of the same sizes to go on from.
            hidden_dim: Width between the head's layers.
            dropout: Share of values the head drops in training.
            gate_rank: Principal directions in which drawings are told from photographs.
            num_classes_averaged: ImageNet classes a photograph's vector is made of.
            similarity_scale: Factor of cosines before the softmax, the inverse of a temperature.
            probe_weight: Weight of each probe's loss.
            learning_rate: Peak learning rate.
            weight_decay: Weight decay of all weights.
        """
        super().__init__(output, similarity_scale, probe_weight, learning_rate, weight_decay)
        self.start_from = start_from
        self.side_config = {
            "head": {"hidden_dim": hidden_dim, "dropout": dropout},
            "num_classes_averaged": num_classes_averaged,
            "gate_rank": gate_rank,
        }

    @property
    def data(self) -> PictureBindingData:
        """The data the trainer was given."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PictureBindingData)
        return data

    def build_network(self, embed_dim: int) -> nn.Module:
        """Build the head, or take that of an earlier part."""
        head = BindingHead(self.data.trunk.summary_dim, embed_dim, **self.side_config["head"])
        if self.start_from is not None:
            head.load_state_dict(self._earlier.image.head.state_dict())
        return head

    @property
    def _earlier(self) -> MicroBindEncoder:
        return MicroBindEncoder(str(self.start_from), self.data.trunk_source)

    def part(self, embed_dim: int) -> MicroBindEncoder:
        """Assemble the part, the gate fitted on the training drawings.

        It has the other sides of the part gone on from; a side of videos has to be trained again,
        for it reads pictures by this one.
        """
        trunk, side_config = self.data.trunk_source, self.side_config
        if self.start_from is not None:
            encoder = part_with(self._earlier, "image", side_config, trunk)
        else:
            config = {
                "part": "micro-bind",
                "embed_dim": embed_dim,
                "trunk": self.data.trunk_config,
                "modalities": {"image": side_config},
            }
            encoder = MicroBindEncoder.from_config(config, trunk)
        side = encoder.image
        side.head.load_state_dict(self.network.state_dict())
        side.class_vectors.copy_(self.data.class_vectors())
        features = self.data.datasets["train"].tensors[0][:, : side.trunk.dim]
        side.gate.fit(features.float(), self.data.artists())
        return encoder
