"""Messages and replies under way as gradio's chatbot shows them."""

from __future__ import annotations

import base64
import html
import io
import mimetypes
from pathlib import Path
from typing import Any

import PIL.Image

from nextgpt.events import Event, MediaFinished, MediaProgress, MediaStarted, PartialReply
from nextgpt.media import Audio, Image
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
    content = [piece for part in message.parts for piece in shown_part(part, folder)]
    if note:
        content.append(_text(f"<small>{html.escape(note)}</small>"))
    return {"role": message.role, "content": content}


def shown_part(part: Part, folder: Path) -> list[Shown]:
    """Show text, a picture or a video as it is, a sound as a player and its spectrogram."""
    if isinstance(part, str):
        return [_text(part)]
    path = part.path
    if path is None:
        name = f"{NAMES[part.modality]}-{part.content_hash()[:24]}"
        path = folder / f"{name}{MODALITIES[part.modality].file_suffix}"
        if not path.exists():
            part.save(path)
    shown = [_file(path, NAMES[part.modality])]
    if isinstance(part, Audio):
        drawn = folder / f"spectrogram-{part.content_hash()[:24]}.png"
        if not drawn.exists():
            picture = still(part, SPECTROGRAM_PX)
            picture.resize((picture.width * 2, picture.height)).save(drawn)
        shown.append(_file(drawn, "its spectrogram"))
    return shown


def _text(text: str) -> Shown:
    return {"type": "text", "text": text}


def _file(path: Path, description: str) -> Shown:
    # Without its type, gradio offers a file instead of showing it.
    return {
        "type": "file",
        "file": {"path": str(path), "mime_type": mimetypes.guess_type(path)[0]},
        "alt_text": description,
    }


class ReplyView(PartialReply):
    """A reply while it comes, shown."""

    def __init__(self, folder: Path) -> None:
        """Start with nothing.

        Args:
            folder: Receives the media.
        """
        super().__init__()
        self.folder = folder
        self.names: list[str] = []
        """What medium ``i`` is called while it is not there yet."""
        self.preview: PIL.Image.Image | None = None
        """The last one, of the medium that renders."""

    def take(self, event: Event) -> None:
        """Note what happened."""
        super().take(event)
        match event:
            case MediaStarted(index, modality):
                self.names.append(f"{NAMES[modality]} {index + 1}")
            case MediaProgress():
                self.preview = event.preview or self.preview
            case MediaFinished():
                self.preview = None

    def shown(self) -> Shown:
        """Show it as it is now."""
        content: list[Shown] = []
        for part in self.parts:
            if isinstance(part, Part):
                content += shown_part(part, self.folder)
            else:
                content.append(_text(self._placeholder(part)))
        return {"role": "assistant", "content": content or [_text("…")]}

    def _placeholder(self, state: MediaStarted | MediaProgress) -> str:
        """Say how far a medium is; markup of our own, without anything that users or models say.

        NOTE: gradio strips ``aria-`` attributes, so the bar is named by the label around it.
        """
        name, picture = self.names[state.index], ""
        if isinstance(state, MediaStarted):
            how_far, bar = "waits", '<progress value="0"></progress>'
        else:
            how_far = f"step {state.step} of {state.total}"
            bar = f'<progress value="{state.step}" max="{state.total}"></progress>'
            if self.preview is not None:
                picture = f'<img src="{_data_url(self.preview)}" alt="preview of {name}">'
        return f'<div class="rendering"><label>{name}: {how_far}{bar}</label>{picture}</div>'


def _data_url(picture: PIL.Image.Image) -> str:
    """Write a picture into an address."""
    height = PREVIEW_PX if picture.mode == "RGB" else SPECTROGRAM_PX
    enlarged = still(Image(picture.convert("RGB")), height)
    buffer = io.BytesIO()
    enlarged.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
