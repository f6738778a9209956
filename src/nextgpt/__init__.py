"""Chat in text, images, audio and video: any combination in, any combination out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextgpt.generation import NextGPT
    from nextgpt.media import Audio, Image, Video
    from nextgpt.messages import Conversation, Message
    from nextgpt.modality import Modality

__version__ = "0.1.0"
__all__ = ["Audio", "Conversation", "Image", "Message", "Modality", "NextGPT", "Video"]

_HOMES = {
    "Audio": "nextgpt.media",
    "Conversation": "nextgpt.messages",
    "Image": "nextgpt.media",
    "Message": "nextgpt.messages",
    "Modality": "nextgpt.modality",
    "NextGPT": "nextgpt.generation",
    "Video": "nextgpt.media",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: torch alone takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nextgpt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted([*globals(), *_HOMES])
