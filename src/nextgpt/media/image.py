"""Pictures: any common file in, RGB out, png files."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import PIL.ImageOps

from nextgpt.media.base import Medium
from nextgpt.modality import Modality

MAX_PIXELS = 64_000_000
"""Larger pictures are refused by their header; decoded, this many take 192 MB."""

# NOTE: Pillow's other readers run external programs (EPS) or recognise a file by almost nothing.
PICTURE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")

_header_lock = threading.Lock()


class Image(Medium):
    """A picture."""

    modality = Modality.IMAGE

    def __init__(
        self,
        source: str | Path | bytes | PIL.Image.Image | np.ndarray,
        caption: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Keep the source; a file is read when it is first needed.

        Args:
            source: Path, bytes, ``PIL.Image.Image``, or uint8 array (H, W), (H, W, 3) or
                (H, W, 4).
            caption: What it shows, where known.
            seed: The seed it was generated with, where it was generated.

        Raises:
            ValueError: decoded data of another type or shape, or too large.
        """
        self._pil: PIL.Image.Image | None = None
        super().__init__(source, caption, seed)

    def _take_decoded(self, source: Any) -> None:
        if isinstance(source, np.ndarray):
            shape_is_right = source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))
            if source.dtype != np.uint8 or not shape_is_right:
                raise self._error(
                    f"array {source.shape} {source.dtype}",
                    "give uint8 (H, W), (H, W, 3) or (H, W, 4)",
                )
            if source.size == 0:
                raise self._error(f"array {source.shape} has no pixels", "give at least 1x1")
            source = PIL.Image.fromarray(source)
        if not isinstance(source, PIL.Image.Image):
            raise self._error(
                f"{type(source).__name__} is no picture", "give a path, bytes, PIL or array"
            )
        self._check_size(source.size)
        with self._reading("give a picture that PIL can convert"):
            self._pil = _to_rgb(source)

    def _decoded_array(self) -> np.ndarray:
        return np.asarray(self.pil)

    def _check_size(self, size: tuple[int, int]) -> None:
        width, height = size
        if width * height > MAX_PIXELS:
            raise self._error(
                f"{width}x{height} pixels are {width * height / 1e6:.0f} megapixels",
                f"the limit is {MAX_PIXELS // 1_000_000}, make it smaller",
            )
        if width * height == 0:
            raise self._error(f"{width}x{height} has no pixels", "give at least 1x1")

    @contextmanager
    def _open_picture(self) -> Iterator[PIL.Image.Image]:
        """Read the header alone, check the size and yield the undecoded picture."""
        with self._open() as file:
            # Pillow's own limit is global and its error does not give the size: it steps aside
            # while the header is read, and ours decides before a single pixel is decoded.
            with _header_lock:
                pillow_limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
                try:
                    picture = PIL.Image.open(file, formats=PICTURE_FORMATS)
                finally:
                    PIL.Image.MAX_IMAGE_PIXELS = pillow_limit
            self._check_size(picture.size)
            yield picture

    def is_picture(self) -> bool:
        """Whether the content starts as a picture does, whatever the file is called."""
        try:
            with self._open_picture():
                return True
        except PIL.UnidentifiedImageError:
            return False

    @property
    def pil(self) -> PIL.Image.Image:
        """The picture as RGB: upright, first frame of an animation, transparency on white.

        Raises:
            ValueError: unreadable, empty, truncated, or more than ``MAX_PIXELS``.
        """
        if self._pil is None:
            with self._reading("attach a whole png, jpg, webp, gif, bmp or tiff picture"):
                try:
                    with self._open_picture() as picture:
                        self._pil = _to_rgb(picture)
                except PIL.UnidentifiedImageError as error:
                    remedy = "attach a png, jpg or webp file"
                    raise self._error("is not a picture", remedy) from error
        return self._pil

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pil.size

    def check(self) -> Self:
        """Decode it once; return self, or raise MediaError."""
        _ = self.pil
        return self

    def png_bytes(self) -> bytes:
        """The picture as a png file in memory."""
        buffer = io.BytesIO()
        self.pil.save(buffer, format="PNG")
        return buffer.getvalue()

    def _write(self, path: Path) -> None:
        path.write_bytes(self.png_bytes())


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Decode and convert any mode to upright RGB, transparency on white."""
    picture.load()
    try:
        picture = PIL.ImageOps.exif_transpose(picture)
    except Exception:  # NOTE: a broken orientation tag is no reason to refuse a good picture
        picture = picture.copy()
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = PIL.Image.fromarray(_to_eight_bits(np.asarray(picture)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit, 32-bit or float greys to uint8; Pillow alone would clip them at 255."""
    finite = np.nan_to_num(values.astype(np.float32))
    if values.dtype == np.uint16:
        full_scale = 65535.0
    else:  # 32-bit and float files do not say their range: the smallest usual one that fits
        peak = float(finite.max())
        full_scale = next((scale for scale in (1.0, 255.0, 65535.0) if peak <= scale), peak)
        full_scale = 255.0 if values.dtype.kind in "iu" and full_scale == 1.0 else full_scale
    return np.clip(np.round(finite * (255.0 / full_scale)), 0, 255).astype(np.uint8)
