"""The modalities and what never changes about each of them."""

from dataclasses import dataclass
from enum import StrEnum


class Modality(StrEnum):
    """A kind of content that nextgpt reads and writes."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


@dataclass(frozen=True)
class ModalityRow:
    """The constants of one medium; sizes belong to the parts (encoder, decoder, config)."""

    modality: Modality
    file_suffix: str
    """Suffix of the files that replies are saved to."""
    layout: str
    """Axes of one raw medium, in order, with their units."""

    @property
    def placeholder(self) -> str:
        """Text that marks the place of a medium in a prompt."""
        return f"<{self.modality}>"


MODALITIES: dict[Modality, ModalityRow] = {
    row.modality: row
    for row in (
        ModalityRow(Modality.IMAGE, ".png", "height, width, rgb in 0..255"),
        ModalityRow(Modality.AUDIO, ".wav", "channels, samples in -1..1 at sample_rate_hz"),
        ModalityRow(Modality.VIDEO, ".mp4", "frames at frames_per_second, height, width, rgb"),
    )
}
