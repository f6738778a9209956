"""Messages and replies under way as gradio's chatbot shows them."""

from __future__ import annotations

import base64
import html
import io
import mimetypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image

from nextgpt.events import Event, MediaFinished, MediaProgress, MediaStarted, TextDelta
from nextgpt.media import Audio, Image, Medium
from nextgpt.media.stills import still
from nextgpt.messages import Message, Part
from nextgpt.modality import MODALITIES, Modality

NAMES = {Modality.IMAGE: "picture", Modality.AUDIO: "sound", Modality.VIDEO: "video"}
SPECTROGRAM_PX = 80
PREVIEW_PX = 128

Shown = dict[str, Any]
"""A message, or a piece of one, in gradio's form."""


def shown_message(message: Message, folder: Path, note: str = "") -> Shown:
    """Show a message.

    Args:
        message: Whatever it holds.
        folder: Receives the media that are no files yet.
        note: Small print behind it.
    """
    content: list[Shown] = []
    caption = ""
    for part in message.parts:
        if isinstance(part, str):
            content.append(_text(part))
            caption = part
        else:
            content += shown_medium(part, folder, caption)
    if note:
        content.append(_text(f"<small>{html.escape(note)}</small>"))
    return {"role": message.role, "content": content}


def shown_medium(medium: Medium, folder: Path, caption: str) -> list[Shown]:
    """Show a medium: a picture or a video as it is, a sound as a player and its spectrogram."""
    name = NAMES[medium.modality]
    path = medium.path
    if path is None:
        stem = medium.content_hash()[:24]
        path = folder / f"{name}-{stem}{MODALITIES[medium.modality].file_suffix}"
        if not path.exists():
            medium.save(path)
    shown = [_file(path, f"{name}: {caption.strip()}")]
    if isinstance(medium, Audio):
        drawn = folder / f"spectrogram-{medium.content_hash()[:24]}.png"
        if not drawn.exists():
            picture = still(medium, SPECTROGRAM_PX)
            picture.resize((picture.width * 2, picture.height)).save(drawn)
        shown.append(_file(drawn, "spectrogram of the sound above"))
    return shown


def _text(text: str) -> Shown:
    return {"type": "text", "text": text}


def _file(path: Path, alternative: str) -> Shown:
    # Without its type, gradio offers a file instead of showing it.
    file = {"path": str(path), "mime_type": mimetypes.guess_type(path)[0]}
    return {"type": "file", "file": file, "alt_text": alternative}


@dataclass
class ReplyView:
    """A reply while it comes."""

    folder: Path
    """Receives its media."""
    parts: list[Part | MediaStarted | MediaProgress] = field(default_factory=list)
    """Text and media; in the place of a medium under way, what was heard of it last."""
    places: list[int] = field(default_factory=list)
    preview: PIL.Image.Image | None = None
    """The last one, of the medium that renders."""

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
            case MediaProgress(index, _, _, preview):
                self.parts[self.places[index]] = event
                self.preview = preview or self.preview
            case MediaFinished(index, part):
                self.parts[self.places[index]] = part
                self.preview = None

    @property
    def message(self) -> Message:
        """What is there by now, without what has not been finished."""
        return Message("assistant", [p for p in self.parts if isinstance(p, str | Medium)])

    def shown(self) -> Shown:
        """Show it as it is now."""
        content: list[Shown] = []
        caption = ""
        for place, part in enumerate(self.parts):
            if isinstance(part, str):
                content.append(_text(part))
                caption = part
            elif isinstance(part, Medium):
                content += shown_medium(part, self.folder, caption)
            else:
                content.append(_text(self._placeholder(self.places.index(place), part)))
        return {"role": "assistant", "content": content or [_text("…")]}

    def _placeholder(self, index: int, state: MediaStarted | MediaProgress) -> str:
        """Say how far a medium is; markup of our own, without anything that users or models say."""
        if isinstance(state, MediaStarted):
            name = NAMES[state.modality]
            return f'<div class="rendering">{name} {index + 1} waits</div>'
        bar = (
            f'<progress value="{state.step}" max="{state.total}" '
            f'aria-label="medium {index + 1}"></progress>'
        )
        picture = ""
        if self.preview is not None:
            url = _data_url(self.preview)
            picture = f'<br><img src="{url}" alt="preview of medium {index + 1}">'
        return f'<div class="rendering">{bar} step {state.step} of {state.total}{picture}</div>'


def _data_url(picture: PIL.Image.Image) -> str:
    """Write a picture into an address."""
    height = PREVIEW_PX if picture.mode == "RGB" else SPECTROGRAM_PX
    enlarged = still(Image(picture.convert("RGB")), height)
    buffer = io.BytesIO()
    enlarged.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
