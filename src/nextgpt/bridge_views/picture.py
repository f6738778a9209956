"""A drawing of what a bridge makes of a picture: its views, and their tokens in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont, ImageOps

from nextgpt.bridge_views.sequence import Block, Cell, ViewTokens, beside_sequence, in_sequence
from nextgpt.input_side import InputSide
from nextgpt.media import Image
from nextgpt.modality import Modality

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are outside."""

WIDTH, MARGIN, GAP = 1200, 32, 28
VIEWS_HEIGHT = 340
LABEL_WIDTH = 40
"""Beside a line of tokens, for the number of its first one."""
PAPER, INK, FAINT, VECTOR = "#ffffff", "#1f2430", "#8a90a0", "#1f2430"
COLOURS = (
    "#e4572e", "#2e86ab", "#3a9d5d", "#f2a900", "#8e5ea2",
    "#17a2a2", "#c2508f", "#7a5c3e", "#6b8e23", "#4b5fc0",
)  # fmt: skip


@dataclass
class Sheet:
    """A drawing that grows downwards.

    Attributes:
        image: What is drawn on.
        cells: Box of every token that was drawn, in their order.
    """

    image: PILImage.Image
    cells: list[Box] = field(default_factory=list)

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        """Draws on the image."""
        return ImageDraw.Draw(self.image)

    def write(
        self, at: tuple[float, float], text: str, size: int, colour: str = INK, anchor: str = "la"
    ) -> float:
        """Write a line and return its width."""
        font = ImageFont.load_default(size)
        self.pen.text(at, text, fill=colour, font=font, anchor=anchor)
        return font.getlength(text)

    def make_room(self, bottom: int) -> None:
        """Grow, so that there is paper down to ``bottom``."""
        if bottom > self.image.height:
            taller = PILImage.new("RGB", (self.image.width, bottom), PAPER)
            taller.paste(self.image)
            self.image = taller

    def trim(self) -> None:
        """Cut off what is empty on the right, but for the margin, and add one below."""
        _, _, right, bottom = ImageOps.invert(self.image).getbbox() or (0, 0, 0, 0)
        self.image = ImageOps.invert(
            ImageOps.invert(self.image).crop((0, 0, right + MARGIN, bottom + MARGIN))
        )


def drawn(chain: InputSide, picture: Image, title: str) -> PILImage.Image:
    """Draw what a chain's bridge makes of a picture; see ``sheet_of``."""
    return sheet_of(chain, picture, title).image


def sheet_of(chain: InputSide, picture: Image, title: str) -> Sheet:
    """Draw a picture, its views and its tokens; a chain without weights is enough.

    Raises:
        ValueError: the picture cannot be read, or the chain reads none.
    """
    layout = chain.layout(Modality.IMAGE, picture.size)
    views = seen_views(chain, picture)
    blocks, beside = in_sequence(chain, layout), beside_sequence(chain, layout)
    num_tokens = _num_cells(blocks)
    sheet = Sheet(PILImage.new("RGB", (WIDTH, MARGIN), PAPER))
    sheet.make_room(MARGIN + 70)
    sheet.write((MARGIN, MARGIN), title, 28)
    width, height = picture.size
    made = f"{width} x {height} pixels, {_counted(layout.num_views, 'view')}"
    made += f", {_counted(num_tokens, 'token')} in the sequence"
    sheet.write((MARGIN, MARGIN + 38), made, 16, FAINT)
    top = _draw_views(sheet, picture, views, layout.grid, MARGIN + 84)
    top = _draw_legend(sheet, blocks + beside, ViewTokens.of(chain).number, top)
    top = _draw_tokens(sheet, blocks, views, chain, "In the sequence, line by line", top)
    if beside:
        name = type(chain.fusion).__name__
        _draw_tokens(sheet, beside, views, chain, f"Beside it, for {name} to look at", top)
    sheet.trim()
    return sheet


def seen_views(chain: InputSide, picture: Image) -> list[PILImage.Image]:
    """What the encoder sees of a picture: its views as they are scaled, cropped and padded."""
    side = chain.encoder.image_size
    plain = [Image(PILImage.new("RGB", (side, side), colour)) for colour in ("black", "white")]
    # How pixels are normalised differs from encoder to encoder: black and white tell.
    black, white = (chain.encoder.preprocess(Modality.IMAGE, each) for each in plain)
    scaled = (chain.preprocess(picture) - black) / (white - black)
    pixels = (scaled.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    return [PILImage.fromarray(each) for each in pixels]


def _draw_views(
    sheet: Sheet,
    picture: Image,
    views: Sequence[PILImage.Image],
    grid: tuple[int, int],
    top: int,
) -> int:
    """Draw the picture, then its views, tiles beside each other; return where they end."""
    sheet.make_room(top + 24 + VIEWS_HEIGHT)
    sheet.write((MARGIN, top), "The picture", 16)
    top += 26
    whole = _fitted(picture.pil, (VIEWS_HEIGHT, VIEWS_HEIGHT))
    sheet.image.paste(whole, (MARGIN, top))
    left = MARGIN + max(whole.width, 110) + 2 * GAP
    sheet.write((left, top - 26), "As the encoder sees it", 16)
    rows, columns = grid
    num_alone = len(views) - rows * columns
    room = WIDTH - MARGIN - left
    side = min(VIEWS_HEIGHT, room // max(1, num_alone + min(1, columns)))
    if grid != (0, 0):
        side = min(side, 190)
    bottom = top + whole.height
    for number in range(num_alone):
        box = (left, top, left + side, top + side)
        _draw_view(sheet, views[number], number, box)
        left, bottom = left + side + GAP, max(bottom, box[3])
    if grid != (0, 0):
        side = min(VIEWS_HEIGHT // rows, (WIDTH - MARGIN - left) // columns)
        for tile in range(rows * columns):
            row, column = divmod(tile, columns)
            x, y = left + column * side, top + row * side
            box = (x, y, x + side - 4, y + side - 4)
            _draw_view(sheet, views[num_alone + tile], num_alone + tile, box)
            bottom = max(bottom, box[3])
    return bottom + GAP


def _draw_view(sheet: Sheet, view: PILImage.Image, number: int, box: Box) -> None:
    """Draw a view with an outline in its colour and its number."""
    left, top, right, bottom = box
    sheet.image.paste(view.resize((right - left, bottom - top)), (left, top))
    colour = _colour(number)
    sheet.pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=4)
    sheet.pen.rectangle((left, top, left + 25, top + 25), fill=colour)
    sheet.write((left + 13, top + 13), str(number + 1), 16, PAPER, "mm")


def _draw_legend(sheet: Sheet, blocks: Sequence[Block], num_view_tokens: int, top: int) -> int:
    """Say which colour is which view, and how many of its tokens there are."""
    counts = Counter(cell.view for block in blocks for cell in block.cells)
    left = float(MARGIN)
    sheet.make_room(top + 20)
    for view in sorted(counts, key=lambda each: -1 if each is None else each):
        if view is None:
            text = _counted(counts[view], "learned vector")
        else:
            kept = f"{counts[view]:,} of " if counts[view] < num_view_tokens else ""
            text = f"view {view + 1}: {kept}{_counted(num_view_tokens, 'token')}"
        width = ImageFont.load_default(14).getlength(text) + 22
        if left + width > WIDTH - MARGIN and left > MARGIN:
            left, top = float(MARGIN), top + 24
            sheet.make_room(top + 20)
        box = (round(left), top + 1, round(left) + 14, top + 15)
        _draw_cell(sheet, Cell(view, 0), None, box)
        sheet.write((left + 20, top), text, 14)
        left += width + GAP
    return top + 20 + GAP


def _draw_tokens(
    sheet: Sheet,
    blocks: Sequence[Block],
    views: Sequence[PILImage.Image],
    chain: InputSide,
    heading: str,
    top: int,
) -> int:
    """Draw blocks of tokens one after the other, as many beside each other as fit."""
    sheet.make_room(top + 22)
    sheet.write((MARGIN, top), heading, 16)
    top += 30
    side = _cell_side(_num_cells(blocks))
    patches = _Patches(views, ViewTokens.of(chain).side, side - 2)
    left, bottom = MARGIN, top
    for block in blocks:
        width = LABEL_WIDTH + block.num_columns * side
        if left + width > WIDTH - MARGIN and left > MARGIN:
            left, top = MARGIN, bottom + GAP
        end = top + 22 + len(block.lines) * side
        sheet.make_room(end)
        _draw_block(sheet, block, patches, (left, top), side)
        left, bottom = left + width + GAP, max(bottom, end)
    return bottom + GAP


class _Patches:
    """The patches of all views, as large as they are drawn."""

    def __init__(self, views: Sequence[PILImage.Image], side: int, patch_side: int) -> None:
        self.patch_side = patch_side
        size = (side * patch_side, side * patch_side)
        self.views = [view.resize(size) for view in views] if side else []

    def of(self, cell: Cell) -> PILImage.Image | None:
        """The patch of a token; none where it is not of one."""
        if cell.view is None or cell.patch is None:
            return None
        y, x = (each * self.patch_side for each in cell.patch)
        return self.views[cell.view].crop((x, y, x + self.patch_side, y + self.patch_side))


def _draw_block(
    sheet: Sheet, block: Block, patches: _Patches, at: tuple[int, int], side: int
) -> None:
    left, top = at
    number = block.first
    last = number + len(block.cells) - 1
    views = sorted({cell.view + 1 for cell in block.cells if cell.view is not None})
    named = "" if not views else f", view {views[0]}" if len(views) == 1 else ", views "
    named += f"{views[0]} to {views[-1]}" if len(views) > 1 else ""
    span = f"token {number:,}" if last == number else f"tokens {number:,} to {last:,}"
    sheet.write((left + LABEL_WIDTH, top), span + named, 13)
    left, top = left + LABEL_WIDTH, top + 22
    for line in block.lines:
        sheet.write((left - 6, top + side / 2), f"{number:,}", 10, FAINT, "rm")
        for column, cell in enumerate(line):
            x = left + column * side
            box = (x, top, x + side, top + side)
            _draw_cell(sheet, cell, patches.of(cell), box)
            sheet.cells.append(box)
        number += len(line)
        top += side


def _draw_cell(sheet: Sheet, cell: Cell, patch: PILImage.Image | None, box: Box) -> None:
    """Draw a token: its patch in the colour of its view, or the colour alone."""
    left, top, right, bottom = box
    colour = VECTOR if cell.view is None else _colour(cell.view)
    if patch is not None:
        sheet.pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        sheet.image.paste(patch, (left + 1, top + 1))
        return
    sheet.pen.rectangle((left, top, right - 2, bottom - 2), fill=colour)
    if cell.view is None:
        # A diamond tells a learned vector from what a picture may look like.
        x, y, radius = (left + right - 2) / 2, (top + bottom - 2) / 2, (right - left) / 4
        points = [(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)]
        sheet.pen.polygon(points, fill=PAPER)


def _fitted(picture: PILImage.Image, size: tuple[int, int]) -> PILImage.Image:
    """Scale a picture into a size, 2 pixels wide and high at least."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    scaled = (max(2, round(picture.width * scale)), max(2, round(picture.height * scale)))
    return ImageOps.expand(picture.resize(scaled), 1, FAINT)


def _cell_side(num_cells: int) -> int:
    """Pixels from a token to the next, so that few are large and many fit."""
    for most, side in ((16, 56), (64, 34), (256, 26), (576, 20)):
        if num_cells <= most:
            return side
    return 14


def _num_cells(blocks: Sequence[Block]) -> int:
    return sum(len(block.cells) for block in blocks)


def _colour(view: int) -> str:
    return COLOURS[view % len(COLOURS)]


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}" + "s" * (number != 1)
