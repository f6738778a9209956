"""AnyRes against transformers: which resolution, what is padding, in which order it is read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from nextgpt.bridges import AnyResTiles, RowsAssembler, SquarePad
from nextgpt.bridges.anyres import best_resolution
from nextgpt.layout import Layout
from nextgpt.media import Image
from nextgpt.modality import Modality

TILE, PATCH, WIDTH = 24, 6, 8
SIDE = TILE // PATCH
GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
RESOLUTIONS = [(columns * TILE, rows * TILE) for columns, rows in GRIDS]
# Without shapes so thin that padding is everything.
SIZES = [(w, h) for w in (7, 20, 48, 97, 640, 1000) for h in (9, 33, 48, 100, 480, 999)]


@pytest.mark.parametrize("size", SIZES)
def test_the_resolution_is_the_one_that_transformers_takes(size: tuple[int, int]) -> None:
    width, height = size
    theirs = select_best_resolution((height, width), [(h, w) for w, h in RESOLUTIONS])
    assert best_resolution(size, RESOLUTIONS) == (theirs[1], theirs[0])


def test_of_equally_good_resolutions_the_first_is_taken() -> None:
    assert best_resolution((10, 10), [(20, 10), (10, 20)]) == (20, 10)
    assert best_resolution((10, 10), [(10, 20), (20, 10)]) == (10, 20)


@pytest.mark.parametrize("size", SIZES)
def test_tokens_are_packed_as_transformers_packs_them(size: tuple[int, int]) -> None:
    layout = AnyResTiles(TILE, GRIDS).layout(Modality.IMAGE, size)
    tokens = torch.randn(layout.num_views, SIDE**2, WIDTH)
    assembler = RowsAssembler(WIDTH)
    ours = assembler(tokens, [layout])
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=TILE, patch_size=PATCH),
        image_grid_pinpoints=[[height, width] for width, height in RESOLUTIONS],
    )
    packed, lengths = LlavaNextModel.pack_image_features(
        SimpleNamespace(config=config),
        [tokens],
        torch.tensor([[size[1], size[0]]]),
        "full",
        assembler.vectors[0],
    )
    assert len(ours) == int(lengths[0]) == assembler.num_tokens(layout, SIDE**2)
    assert torch.equal(ours, packed[0])


def test_the_most_tokens_at_full_size_are_those_of_the_paper_and_a_newline_a_row() -> None:
    layout = AnyResTiles(336).layout(Modality.IMAGE, (1000, 1000))
    assert layout.grid == (2, 2)
    assert RowsAssembler(4).num_tokens(layout, 576) == 576 + 48 * 48 + 48 == 2928


def test_tiles_are_the_picture_row_by_row_behind_the_whole() -> None:
    values = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    whole, *tiles = AnyResTiles(TILE, GRIDS).views(Image(values))
    assert isinstance(whole, Image) and whole.size == (TILE, TILE)
    found = [np.asarray(tile.pil) for tile in tiles if isinstance(tile, Image)]
    expected = [values[y : y + TILE, x : x + TILE] for y in (0, TILE) for x in (0, TILE)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_padding_is_black_and_centred() -> None:
    thin = Image(np.full((10, 48, 3), 200, np.uint8))
    _, *tiles = AnyResTiles(TILE, [(2, 1)]).views(thin)
    shown = [np.asarray(tile.pil) for tile in tiles if isinstance(tile, Image)]
    rows = np.concatenate(shown, axis=1).mean((1, 2))
    assert rows.tolist() == [0] * 7 + [200] * 10 + [0] * 7


def test_a_picture_that_is_nearly_all_padding_is_seen_as_a_whole() -> None:
    layout = AnyResTiles(TILE, GRIDS).layout(Modality.IMAGE, (3000, 10))
    assert RowsAssembler(WIDTH).num_tokens(layout, SIDE**2) == SIDE**2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="grids is empty"):
        AnyResTiles(TILE, [])
    with pytest.raises(ValueError, match=r"grid \[0, 2\]"):
        AnyResTiles(TILE, [(0, 2)])
    tiles = Layout(5, grid=(2, 2), canvas=(48, 48), size=(48, 48))
    with pytest.raises(ValueError, match="10 tokens of a tile are no square map"):
        RowsAssembler(WIDTH).order(tiles, 10)
    with pytest.raises(ValueError, match="num_frames is 0"):
        AnyResTiles(TILE, GRIDS, num_frames=0)


@pytest.mark.parametrize(("size", "side"), [((10, 30), 30), ((30, 10), 30), ((7, 7), 7)])
def test_a_padded_picture_is_square_and_in_the_middle(size: tuple[int, int], side: int) -> None:
    [view] = SquarePad(TILE).views(Image(np.full((size[1], size[0], 3), 200, np.uint8)))
    assert isinstance(view, Image) and view.size == (side, side)
    values = np.asarray(view.pil)
    shown = (values == 200).all(-1)
    assert shown.sum() == size[0] * size[1]
    assert (values[~shown] == (122, 116, 104)).all()
    rows, columns = np.nonzero(shown)
    assert rows.min() == (side - size[1]) // 2
    assert columns.min() == (side - size[0]) // 2


def test_the_square_of_a_panorama_is_bounded() -> None:
    panorama = Image(np.full((2, 20_000, 3), 200, np.uint8))
    [view] = SquarePad(TILE).views(panorama)
    assert isinstance(view, Image) and view.size == (4096, 4096)
    shown = (np.asarray(view.pil) == 200).all(-1)
    assert shown.sum() == 4096
