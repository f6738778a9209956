"""Count, place and size are read off pictures of the world, and off nothing."""

from __future__ import annotations

import random

import pytest
from PIL import Image, ImageDraw, ImageFilter

from nextgpt.evaluation.layout import layout_of, things_in
from nextgpt.world.pictures import Sprite, compose
from nextgpt.world.scenes import COLOURS, Place, Scene

SEEDS = range(5)


def sprite() -> Sprite:
    """A body with a tail as wide as itself."""
    drawing = Image.new("RGBA", (120, 90))
    ImageDraw.Draw(drawing).ellipse([0, 0, 70, 89], (120, 70, 20, 255))
    ImageDraw.Draw(drawing).line([60, 50, 119, 60], (120, 70, 20, 255), 3)
    return drawing


def drawn(scene: Scene, seed: int) -> Image.Image:
    """As a decoder makes it: small, with soft edges."""
    picture = compose(sprite(), scene, random.Random(seed)).resize((64, 64), Image.Resampling.BOX)
    return picture.filter(ImageFilter.GaussianBlur(0.4))


@pytest.mark.parametrize("background", ["white", "black", "pink"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_things_side_by_side_are_counted(count: int, background: str) -> None:
    pictures = [drawn(Scene("dog", background, count=count), seed) for seed in SEEDS]
    assert [layout_of(picture).count for picture in pictures] == [count] * len(SEEDS)


@pytest.mark.parametrize("place", ["centre", "left", "right", "top", "bottom"])
def test_the_place_is_where_the_thing_stands(place: Place) -> None:
    pictures = [drawn(Scene("dog", "white", "small", place), seed) for seed in SEEDS]
    assert {layout_of(picture).place for picture in pictures} == {place}


def test_a_larger_thing_has_a_longer_side() -> None:
    small, medium, large = (
        layout_of(drawn(Scene("dog", "white", size), 0)).side
        for size in ("small", "medium", "large")
    )
    assert small < 0.55 < medium < 0.82 < large


@pytest.mark.parametrize("colour", COLOURS)
def test_an_empty_picture_shows_nothing(colour: str) -> None:
    assert layout_of(Image.new("RGB", (64, 64), colour)).count == 0


def test_a_blot_beside_a_thing_does_not_count() -> None:
    picture = drawn(Scene("dog", "white"), 0)
    ImageDraw.Draw(picture).rectangle([0, 58, 4, 62], "black")
    assert layout_of(picture).count == 1


def test_things_side_by_side_are_parted_in_their_order() -> None:
    scene = Scene("dog", "white", second="cat")
    other = Image.new("RGBA", (60, 80))
    ImageDraw.Draw(other).ellipse([0, 0, 59, 79], (200, 30, 30, 255))
    for seed in SEEDS:
        pair = compose(sprite(), scene, random.Random(seed), other).resize((64, 64))
        brown, red = things_in(pair)
        assert [layout_of(thing).place for thing in (brown, red)] == ["left", "right"]
        assert brown.getpixel((48, 32)) == red.getpixel((16, 32)) == pair.getpixel((0, 0))
        assert red.getpixel((48, 32)) == (200, 30, 30)
    assert things_in(Image.new("RGB", (64, 64), "white")) == []
