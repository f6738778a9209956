"""How a medium is cut into the views that an encoder sees."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The views of one medium, and where they come from.

    Attributes:
        num_views: Views, each of which has its features and its tokens.
        frames_per_view: Pictures whose features lie one behind the other in a view.
        grid: Rows and columns of the views that are tiles of a larger picture; none where 0 x 0.
        canvas: Width and height in pixels that the tiles cover together.
        size: Width and height of the medium itself in pixels, where that decides anything.
    """

    num_views: int = 1
    frames_per_view: int = 1
    grid: tuple[int, int] = (0, 0)
    canvas: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)

    @property
    def num_encoded(self) -> int:
        """What the encoder is given one by one."""
        return self.num_views * self.frames_per_view
