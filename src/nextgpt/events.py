"""What happens while a reply comes, as a stream of events."""

from __future__ import annotations

from dataclasses import dataclass, field

import PIL.Image

from nextgpt.media import Medium
from nextgpt.messages import Message, Part
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


@dataclass
class PartialReply:
    """A reply while it comes, put together from its events."""

    parts: list[Part | MediaStarted | MediaProgress] = field(default_factory=list)
    """Text and media; in the place of a medium under way, what was heard of it last."""
    places: list[int] = field(default_factory=list)
    """Where medium ``i`` stands."""

    def take(self, event: Event) -> None:
        """Note what happened."""
        match event:
            case TextDelta(text):
                if self.parts and isinstance(self.parts[-1], str):
                    self.parts[-1] += text
                else:
                    self.parts.append(text)
            case MediaStarted():
                self.places.append(len(self.parts))
                self.parts.append(event)
            case MediaProgress(index):
                self.parts[self.places[index]] = event
            case MediaFinished(index, part):
                self.parts[self.places[index]] = part

    @property
    def message(self) -> Message:
        """What is there by now, without what has not been finished."""
        return Message("assistant", [p for p in self.parts if isinstance(p, Part)])
