"""AnyRes: a picture as tiles of the resolution that wastes least of it, and as a whole."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from PIL import Image as PILImage

from nextgpt.bridges.assembly import Assembler
from nextgpt.bridges.partition import Partition
from nextgpt.layout import Layout
from nextgpt.media import Image, Medium


class AnyResTiles(Partition):
    """The whole picture squeezed into one tile, then the tiles of the picture padded in black.

    Source: LLaVA-NeXT (LLaVA 1.6); the grids are those of its released checkpoints.
    """

    needs_size: ClassVar[bool] = True

    def __init__(
        self,
        image_size: int,
        grids: Sequence[tuple[int, int]] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)),
        num_frames: int | None = None,
    ) -> None:
        """Choose the resolutions.

        Args:
            image_size: Width and height in pixels of a tile: what the encoder takes.
            grids: Columns and rows of tiles that a picture may be fitted into.
            num_frames: Frames of a video that the encoder sees as pictures, each as a whole.

        Raises:
            ValueError: there is no grid, or one has no tiles.
        """
        super().__init__(image_size, num_frames)
        if not grids:
            raise ValueError("grids is empty: name one at least, such as [2, 2]")
        for grid in grids:
            if len(grid) != 2 or min(grid) < 1:
                raise ValueError(f"grid {list(grid)}: give columns and rows, 1 or more each")
        self.resolutions = [(columns * image_size, rows * image_size) for columns, rows in grids]

    def _layout(self, size: tuple[int, int]) -> Layout:
        canvas = best_resolution(size, self.resolutions)
        columns, rows = (side // self.image_size for side in canvas)
        return Layout(1 + rows * columns, grid=(rows, columns), canvas=canvas, size=size)

    def _cut(self, picture: Image) -> Sequence[Medium]:
        canvas = best_resolution(picture.size, self.resolutions)
        width, height = picture.size
        scale = min(canvas[0] / width, canvas[1] / height)
        fitted = picture.pil.resize(
            (max(1, int(width * scale)), max(1, int(height * scale))), PILImage.Resampling.BICUBIC
        )
        padded = PILImage.new("RGB", canvas)
        padded.paste(fitted, ((canvas[0] - fitted.width) // 2, (canvas[1] - fitted.height) // 2))
        side = self.image_size
        tiles = [
            padded.crop((left, top, left + side, top + side))
            for top in range(0, canvas[1], side)
            for left in range(0, canvas[0], side)
        ]
        return [self._frame(picture), *map(Image, tiles)]

    def _frame(self, frame: Image) -> Medium:
        return Image(
            frame.pil.resize((self.image_size, self.image_size), PILImage.Resampling.BICUBIC)
        )


def best_resolution(
    size: tuple[int, int], resolutions: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Choose what keeps most of a picture's pixels, and of those what wastes fewest of its own.

    Args:
        size: Width and height of the picture.
        resolutions: Width and height of each choice; the first of equally good ones is taken.
    """
    width, height = size

    def merit(resolution: tuple[int, int]) -> tuple[int, int]:
        scale = min(resolution[0] / width, resolution[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - resolution[0] * resolution[1]

    return max(resolutions, key=merit)


class RowsAssembler(Assembler):
    """The whole first, then the rows of all tiles together, less the padding, each with its end.

    A learned vector ends every row. Media without tiles are read view by view.

    Source: LLaVA-NeXT (``spatial_unpad``).
    """

    NEWLINE: ClassVar[int] = -1

    def __init__(self, output_size: int) -> None:
        """Draw the end of a row.

        Args:
            output_size: Width of the language model.
        """
        super().__init__(output_size, num_vectors=1)

    def order(self, layout: Layout, num_view_tokens: int) -> list[int]:
        """Say what stands where; see ``Assembler``.

        Raises:
            ValueError: the tokens of a view are no square map.
        """
        if layout.grid == (0, 0):
            return super().order(layout, num_view_tokens)
        return [*range(num_view_tokens), *self._rows(layout, num_view_tokens)]

    def _rows(self, layout: Layout, num_view_tokens: int) -> Iterator[int]:
        side = round(num_view_tokens**0.5)
        if side**2 != num_view_tokens:
            raise ValueError(
                f"{num_view_tokens} tokens of a tile are no square map; take a connector that "
                "keeps the encoder's patches"
            )
        rows, columns = layout.grid
        ys, xs = unpadded(layout.size, (columns * side, rows * side))
        for y in ys:
            for x in xs:
                tile = 1 + y // side * columns + x // side
                yield tile * num_view_tokens + y % side * side + x % side
            yield self.NEWLINE


def unpadded(size: tuple[int, int], map_size: tuple[int, int]) -> tuple[range, range]:
    """Rows and columns of a map of a padded picture that are not padding.

    Args:
        size: Width and height of the picture before it was fitted and padded.
        map_size: Width and height of the map.
    """
    (width, height), (map_width, map_height) = size, map_size
    ys, xs = range(map_height), range(map_width)
    if width / height > map_width / map_height:
        padding = (map_height - _whole(height * map_width / width)) // 2
        return ys[padding : map_height - padding], xs
    padding = (map_width - _whole(width * map_height / height)) // 2
    return ys, xs[padding : map_width - padding]


def _whole(number: float) -> int:
    """Round down, but for what is a whole number up to the rounding of floats."""
    return int(round(number, 7))
