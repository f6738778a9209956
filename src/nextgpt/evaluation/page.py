"""A measurement as one web page that needs no other file: every case beside its verdict."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import soundfile

from nextgpt.evaluation.results import Row, Sample
from nextgpt.media import Audio, Image, Medium
from nextgpt.media.log_mel import SAMPLE_RATE_HZ
from nextgpt.media.stills import spectrogram, start_of
from nextgpt.messages import Part
from nextgpt.modality import Modality

NUM_SHOWN = 6
"""Worst cases, and best ones, that are seen before one asks for all."""
LARGEST_PX = 256
"""Larger pictures are made smaller on the page."""


def page(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """Write the table and the cases of every row as HTML.

    Args:
        rows: The table with its cases.
        facts: What decides the numbers, shown below the table.

    Raises:
        ValueError: a medium of a case cannot be read.
    """
    album = Album()
    text = (resources.files("nextgpt.evaluation") / "page.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(text).render(
        rows=rows, facts=facts, ordered=ordered, shown=album.shown, album=album, most=NUM_SHOWN
    )


def ordered(samples: Sequence[Sample]) -> list[Sample]:
    """Sort cases from worst to best: wrong before right, then by how sure the judge is."""
    return sorted(samples, key=lambda sample: (sample.is_right, sample.share or 0.0))


@dataclass(frozen=True)
class Shown:
    """A part of a message as the page shows it."""

    kind: Modality
    text: str = ""
    key: str = ""
    """Of a medium in the album."""
    spectrogram: str = ""
    """Key of the picture of a sound."""


class Album:
    """Media as addresses that hold them (``data:``), each once, by a short key.

    Many are seen twice: a generated one under two rows, a training one beside several others.
    """

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}

    def shown(self, part: Part) -> Shown:
        """Take a part of a message in."""
        if isinstance(part, str):
            return Shown(Modality.TEXT, part)
        key = part.content_hash()[:16]
        if key not in self.addresses:
            self._keep(key, *encoded(part))
        if not isinstance(part, Audio):
            return Shown(part.modality, key=key)
        drawn = f"{key}-drawn"
        if drawn not in self.addresses:
            self._keep(drawn, *encoded(Image(spectrogram(start_of(part)))))
        return Shown(part.modality, key=key, spectrogram=drawn)

    def _keep(self, key: str, mime_type: str, data: bytes) -> None:
        self.addresses[key] = f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def encoded(medium: Medium) -> tuple[str, bytes]:
    """Encode a medium small, as every browser plays it: its MIME type and its bytes."""
    buffer = io.BytesIO()
    if isinstance(medium, Image):
        picture = medium.pil.copy()
        picture.thumbnail((LARGEST_PX, LARGEST_PX))
        picture.save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue()
    if isinstance(medium, Audio):
        soundfile.write(buffer, start_of(medium), SAMPLE_RATE_HZ, format="MP3")
        return "audio/mpeg", buffer.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        return "video/mp4", medium.save(Path(folder) / "clip.mp4").read_bytes()
