"""What the judge is shown of a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from nextgpt.evaluation.isolate import background_colour, isolate

BLUE, RED = (40, 90, 220), (220, 40, 40)


def with_squares(*boxes: tuple[int, int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (64, 64), BLUE)
    for box in boxes:
        ImageDraw.Draw(picture).rectangle(box, RED)
    return picture


def test_the_background_is_the_colour_of_the_rim() -> None:
    assert background_colour(with_squares((20, 20, 40, 40))) == BLUE


def difference(first: Image.Image, second: Image.Image) -> float:
    values = [np.asarray(picture.resize((32, 32)), dtype=int) for picture in (first, second)]
    return float(np.abs(values[0] - values[1]).mean())


def test_size_and_place_of_a_thing_hardly_matter() -> None:
    small, large = with_squares((4, 40, 15, 51)), with_squares((24, 10, 48, 34))
    assert difference(isolate(small), isolate(large)) < difference(small, large) / 3


def test_only_the_largest_of_several_things_is_kept() -> None:
    alone = isolate(with_squares((30, 20, 55, 45)))
    beside_another = isolate(with_squares((30, 20, 55, 45), (4, 30, 14, 40)))
    assert np.array_equal(np.asarray(alone), np.asarray(beside_another))


def test_an_empty_picture_is_left_as_it_is() -> None:
    picture = Image.new("RGB", (64, 64), BLUE)
    assert np.array_equal(np.asarray(isolate(picture)), np.asarray(picture))
