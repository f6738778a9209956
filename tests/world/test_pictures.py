"""Pictures: icons found through aliases, sizes and places as the caption says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny_icons import pattern, write_icon_set

from nextgpt.world.pictures import CANVAS_PX, IconSet, compose, difference_hash, render
from nextgpt.world.scenes import COLOURS, Scene

SQUARE = '<path fill="#0f0" d="M2 3h4v2h-4z"/>'


@pytest.fixture
def icon_set(tmp_path: Path) -> IconSet:
    """Two icons, of which one has its own size, and aliases."""
    data = {
        "width": 8,
        "height": 8,
        "icons": {"square": {"body": SQUARE}, "wide": {"body": SQUARE, "width": 16}},
        "aliases": {
            "box": {"parent": "square"},
            "crate": {"parent": "box"},
            "turned": {"parent": "square", "rotate": 1},
            "loop": {"parent": "loop"},
        },
    }
    return IconSet(write_icon_set(tmp_path / "set.tgz", data))


def measure(picture: Image.Image) -> tuple[np.ndarray, int, int, float, float]:
    """Find the green thing: mask, width, height, centre x, centre y."""
    pixels = np.asarray(picture).astype(int)
    mask = (pixels[..., 1] > 200) & (pixels[..., 0] < 100)
    rows, columns = np.where(mask)
    width, height = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
    return mask, width, height, float(columns.mean()), float(rows.mean())


def test_an_alias_of_an_alias_is_its_icon(icon_set: IconSet) -> None:
    assert icon_set.svg("crate") == icon_set.svg("square")
    assert 'viewBox="0 0 16 8"' in icon_set.svg("wide")


@pytest.mark.parametrize("name", ["circle", "turned", "loop"])
def test_an_icon_that_is_not_there_is_named_with_its_archive(icon_set: IconSet, name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not in set.tgz"):
        icon_set.svg(name)


def test_a_file_that_is_no_icon_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.tgz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="set.tgz is no iconify archive"):
        IconSet(tmp_path / "set.tgz")


def test_a_sprite_is_cropped_to_its_drawing(icon_set: IconSet) -> None:
    assert render(icon_set.svg("square")).size == (128, 64)


def test_an_empty_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        render('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"></svg>')


@pytest.mark.parametrize(("size", "share"), [("small", 0.42), ("medium", 0.72), ("large", 0.92)])
def test_sizes_are_shares_of_the_canvas(icon_set: IconSet, size: str, share: float) -> None:
    sprite = render(icon_set.svg("square"))
    for seed in range(20):
        picture = compose(sprite, Scene("dog", "black", size=size), random.Random(seed))
        assert picture.size == (CANVAS_PX, CANVAS_PX)
        assert picture.mode == "RGB"
        _, width, height, *_ = measure(picture)
        assert width / CANVAS_PX == pytest.approx(share, rel=0.07)
        assert height / width == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("place", "x_share", "y_share"),
    [
        ("centre", 0.5, 0.5),
        ("left", 0.25, 0.5),
        ("right", 0.75, 0.5),
        ("top", 0.5, 0.25),
        ("bottom", 0.5, 0.75),
    ],
)
def test_places_are_where_they_say(
    icon_set: IconSet, place: str, x_share: float, y_share: float
) -> None:
    sprite = render(icon_set.svg("square"))
    for seed in range(20):
        scene = Scene("dog", "black", size="small", place=place)
        *_, x, y = measure(compose(sprite, scene, random.Random(seed)))
        assert (x / CANVAS_PX, y / CANVAS_PX) == pytest.approx((x_share, y_share), abs=0.05)


@pytest.mark.parametrize("count", [2, 3])
def test_several_copies_stand_apart(icon_set: IconSet, count: int) -> None:
    sprite = render(icon_set.svg("square"))
    for seed in range(20):
        picture = compose(sprite, Scene("dog", "black", count=count), random.Random(seed))
        columns = measure(picture.resize((64, 64), Image.Resampling.BOX))[0].any(axis=0)
        starts, ends = (np.flatnonzero(np.diff(columns.astype(int)) == step) for step in (1, -1))
        assert len(starts) == count
        # Enough that an autoencoder does not close them.
        assert (starts[1:] - ends[:-1]).min() >= 4


def test_two_things_stand_apart_in_their_order(icon_set: IconSet) -> None:
    first = render(icon_set.svg("square"))
    second = render(icon_set.svg("square").replace("#0f0", "#f00"))
    scene = Scene("dog", "black", second="cat")
    for seed in range(20):
        pixels = np.asarray(compose(first, scene, random.Random(seed), second)).astype(int)
        green, red = (np.where(pixels[..., channel] > 200)[1] for channel in (1, 0))
        assert green.max() < CANVAS_PX / 2 < red.min()
        assert len(green) == pytest.approx(len(red), rel=0.02)


@pytest.mark.parametrize("colour", COLOURS)
def test_backgrounds_keep_their_colour(icon_set: IconSet, colour: str) -> None:
    sprite = render(icon_set.svg("square"))
    for seed in range(10):
        corner = compose(sprite, Scene("dog", colour), random.Random(seed)).getpixel((0, 0))
        assert np.abs(np.subtract(corner, COLOURS[colour])).max() <= 6


def test_about_half_the_pictures_are_mirrored() -> None:
    half = Image.new("RGBA", (64, 64), (0, 255, 0, 255))
    half.paste((0, 0, 255, 255), (0, 0, 32, 64))
    scene = Scene("dog", "black")
    lefts = [measure(compose(half, scene, random.Random(s)))[3] < 64 for s in range(100)]
    assert 30 < sum(lefts) < 70


def test_the_same_seed_gives_the_same_picture(icon_set: IconSet) -> None:
    sprite = render(icon_set.svg("square"))
    first, second = (compose(sprite, Scene("dog", "red"), random.Random(7)) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_the_hash_knows_a_drawing_again_at_another_size_but_not_another_drawing() -> None:
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 6 6" width="256" height="256">'
    one, other = (render(f"{head}{pattern(name)}</svg>") for name in ("one", "other"))
    again = one.resize((100, 100), Image.Resampling.LANCZOS)
    assert (difference_hash(one) != difference_hash(again)).sum() <= 10
    assert (difference_hash(one) != difference_hash(other)).sum() > 40
    assert (difference_hash(one) != difference_hash(ImageOps.mirror(one))).sum() > 40
