"""Pictures: every common kind is read as RGB, unusable ones are refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from nextgpt.media import Image, load_medium
from nextgpt.media.image import MAX_PIXELS


def png_header(width: int, height: int) -> bytes:
    """A png file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]
)
def test_every_picture_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    array = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    if mode == "I;16":
        picture = PIL.Image.fromarray(array * 100)
    else:
        picture = PIL.Image.fromarray((array % 256).astype(np.uint8)).convert("RGB").convert(mode)
    path = tmp_path / "picture.tiff"
    (picture if mode != "YCbCr" else picture.convert("RGB")).save(path)
    image = load_medium(path)
    assert isinstance(image, Image)
    assert image.pil.mode == "RGB"
    assert image.size == (30, 20)


def test_sixteen_bit_greys_keep_their_range(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(Image(tmp_path / "deep.png").pil)[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert Image(tmp_path / "clear.png").pil.getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    PIL.Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert Image(tmp_path / "turned.jpg").size == (20, 40)


def test_the_first_frame_of_an_animation_is_the_picture(tmp_path: Path) -> None:
    first, second = PIL.Image.new("RGB", (8, 8), "red"), PIL.Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    image = load_medium(tmp_path / "moving.gif")
    assert isinstance(image, Image)
    assert image.pil.getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel_is_a_picture() -> None:
    assert Image(np.zeros((1, 1, 3), np.uint8)).size == (1, 1)


def test_huge_pictures_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(png_header(20_000, 20_000))
    pillow_limit = PIL.Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"huge\.png: 20000x20000 pixels .* limit is 64"):
        load_medium(tmp_path / "huge.png")
    assert PIL.Image.MAX_IMAGE_PIXELS == pillow_limit
    assert 20_000**2 > MAX_PIXELS


@pytest.mark.parametrize(
    "array", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))]
)
def test_arrays_that_are_no_picture_are_refused_with_their_shape(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(\d, 4"):
        Image(array)
