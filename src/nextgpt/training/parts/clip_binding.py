"""Trains the video side of micro-bind: clips into the space of sentences."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item
from nextgpt.encoders.heads import BindingHead
from nextgpt.encoders.micro_bind import MicroBindEncoder
from nextgpt.encoders.towers import VideoSide
from nextgpt.modality import Modality
from nextgpt.training.parts.binding import AddedSideRecipe, BindingData, cached_rows
from nextgpt.training.parts.text_encoder import MINILM
from nextgpt.world.motions import MOTIONS, OWN
from nextgpt.world.scenes import COLOURS


class ClipBindingData(BindingData):
    """Summaries of the world's clips by the frozen picture side, with their sentences."""

    modality = Modality.VIDEO
    attributes = {"background": list(COLOURS), "motion": [*MOTIONS, OWN]}
    splits: tuple[str, ...] = ("train", "validation", "held_out_drawing")

    def __init__(
        self,
        world: Path | None = None,
        encoder: Path = Path("checkpoints/micro/encoder"),
        sentences: str = MINILM,
        num_items: int = 1600,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        """Read from a world folder.

        Args:
            world: The folder of the manifest; the user's cache by default.
            encoder: A part whose picture side sees the frames.
            sentences: MiniLM's source.
            num_items: Training clips; each takes the trunk an eighth of a second.
            batch_size: Clips a step.
            seed: Seed of the choice of clips.
        """
        super().__init__(world, sentences, batch_size, seed)
        self.encoder = Path(encoder)
        self.num_items = num_items

    def choose_items(self) -> dict[str, list[Item]]:
        """Take as many training clips as asked."""
        by_split = super().choose_items()
        return by_split | {"train": by_split["train"][: self.num_items]}

    def inputs(self, split: str, items: list[Item]) -> Tensor:
        """Summarise clips once: (N, input_dim of the head) float16."""
        encoder = MicroBindEncoder(str(self.encoder))
        side = VideoSide(encoder.image, head={}, embed_dim=encoder.embed_dim)

        def summarised(chunk: list[Item]) -> Tensor:
            clips = [medium_of(item, self.world / "manifest.jsonl") for item in chunk]
            # One window is all of a clip.
            batch = torch.stack([side.preprocess(clip)[0] for clip in clips])
            with torch.inference_mode():
                return side.summary(batch).half()

        settings = [encoder.fingerprint(), self.world]
        return cached_rows(items, settings, summarised, f"summarising {split}")


class ClipBindingRecipe(AddedSideRecipe):
    """The head of the video side."""

    def build_network(self, embed_dim: int) -> nn.Module:
        """Build the head."""
        input_dim = self.data.datasets["train"].tensors[0].shape[1]
        return BindingHead(input_dim, embed_dim, **self.side_config["head"])

    def side_state(self) -> dict[str, Tensor]:
        """Return the head's weights."""
        return {f"head.{name}": value for name, value in self.network.state_dict().items()}
