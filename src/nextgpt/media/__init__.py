"""Pictures, sounds and videos: read from any common file, written as png, wav and mp4."""

from pathlib import Path

from nextgpt.media.audio import Audio
from nextgpt.media.base import MediaError, Medium
from nextgpt.media.image import Image
from nextgpt.media.video import Video
from nextgpt.modality import Modality

__all__ = ["MEDIUM_TYPES", "Audio", "Image", "MediaError", "Medium", "Video", "load_medium"]

MEDIUM_TYPES: dict[Modality, type[Image] | type[Audio] | type[Video]] = {
    medium_type.modality: medium_type for medium_type in (Image, Audio, Video)
}


def load_medium(path: str | Path, caption: str | None = None) -> Image | Audio | Video:
    """Read a file as what it holds, whatever it is called, and check that it is usable.

    An animated gif counts as a picture, a song with a cover as a sound.

    Raises:
        ValueError: missing, empty, unreadable, truncated, too large, or no medium at all; one line
            names the file and the remedy.
    """
    image = Image(path, caption=caption)
    if image.is_picture():
        return image.check()
    video = Video(path, caption=caption)
    if video.has_moving_pictures():
        return video.check()
    audio = Audio(path, caption=caption)
    if audio.has_sound():
        return audio.check()
    raise MediaError(
        f"{path}: no picture, sound or video can be read from it (another kind of file, or cut"
        " short); attach a whole png, jpg, wav, mp3 or mp4 file"
    )
