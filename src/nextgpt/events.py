"""What happens while a reply comes, as a stream of events."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image

from nextgpt.media import Medium
from nextgpt.messages import Message
from nextgpt.modality import Modality


@dataclass(frozen=True)
class TextDelta:
    """The next piece of text."""

    text: str


@dataclass(frozen=True)
class MediaStarted:
    """The model asked for the medium number ``index`` of this reply; it stands here in the text."""

    index: int
    modality: Modality


@dataclass(frozen=True)
class MediaProgress:
    """The decoder finished ``step`` of ``total`` steps on medium ``index``."""

    index: int
    step: int
    total: int
    preview: PIL.Image.Image | None = None
    """What the latents show so far: a picture, the middle frame of a clip, the spectrogram of a
    sound; None between previews."""


@dataclass(frozen=True)
class MediaFinished:
    """Medium ``index`` is ready."""

    index: int
    part: Medium


@dataclass(frozen=True)
class Done:
    """The reply is whole."""

    message: Message
    timings: dict[str, float]
    """Seconds from the start: ``first_token_s``, ``text_s`` and ``total_s``."""


Event = TextDelta | MediaStarted | MediaProgress | MediaFinished | Done
