"""Partitions: a medium to the views of it that the encoder sees. Pure, nothing is learned."""

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image as PILImage

from nextgpt.layout import Layout
from nextgpt.media import Image, Medium, Video
from nextgpt.modality import Modality


class Partition:
    """The whole medium as one view: what NExT-GPT does, and the base of all others.

    With ``num_frames`` a video is so many pictures, evenly spread over it, each a view of its own,
    or with ``join_frames`` all of them one view. Without, videos go to the encoder as they are.
    """

    needs_size: ClassVar[bool] = False
    """Whether the layout of a picture depends on its size, which costs a look into its file."""

    def __init__(
        self, image_size: int, num_frames: int | None = None, join_frames: bool = False
    ) -> None:
        """Choose what becomes of videos.

        Args:
            image_size: Width and height in pixels of what the encoder takes.
            num_frames: Frames of a video that the encoder sees as pictures.
            join_frames: Give all frames of a video to the connector as one view.

        Raises:
            ValueError: there are no frames.
        """
        if num_frames is not None and num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}: give 1 or more, or leave it out")
        self.image_size = image_size
        self.num_frames = num_frames
        self.join_frames = join_frames

    def seen_as(self, modality: Modality) -> Modality:
        """What the views of a medium are to the encoder."""
        return Modality.IMAGE if self._cuts_frames(modality) else modality

    def _cuts_frames(self, modality: Modality) -> bool:
        return modality == Modality.VIDEO and self.num_frames is not None

    def layout(self, modality: Modality, size: tuple[int, int]) -> Layout:
        """How a medium is cut.

        Args:
            modality: What it is.
            size: Width and height in pixels; of no meaning where the layout does not depend on it.
        """
        if self._cuts_frames(modality):
            assert self.num_frames is not None
            frames = (1, self.num_frames) if self.join_frames else (self.num_frames, 1)
            return Layout(*frames)
        return self._layout(size) if modality == Modality.IMAGE else Layout()

    def size_of(self, medium: Medium) -> tuple[int, int]:
        """Width and height of a picture where they decide its layout, else 0 x 0.

        Raises:
            ValueError: it is a picture that cannot be read.
        """
        return medium.size if self.needs_size and isinstance(medium, Image) else (0, 0)

    def views(self, medium: Medium) -> Sequence[Medium]:
        """Cut a medium: as many media as its layout says that are encoded."""
        if isinstance(medium, Video) and self.num_frames is not None:
            return [
                self._frame(Image(PILImage.fromarray(frame)))
                for frame in medium.frames(self.num_frames)
            ]
        return self._cut(medium) if isinstance(medium, Image) else [medium]

    def describe(self) -> str:
        """What decides the views, for keys of cached features; nothing where media are whole."""
        options = {name: value for name, value in sorted(vars(self).items()) if value}
        del options["image_size"]
        return f"{type(self).__name__} {options}" if options else ""

    def _layout(self, size: tuple[int, int]) -> Layout:
        """How a picture is cut."""
        return Layout()

    def _cut(self, picture: Image) -> Sequence[Medium]:
        """Cut a picture into the views of its layout."""
        return [picture]

    def _frame(self, frame: Image) -> Medium:
        """Prepare one frame of a video: as a picture that is not cut into tiles."""
        return self._cut(frame)[0]


class SquarePad(Partition):
    """The whole picture, padded to a square around its middle, so that nothing is cropped.

    Source: arXiv:2310.03744 (LLaVA-1.5), which pads with the mean colour of CLIP.
    """

    MAX_SIDE: ClassVar[int] = 4096
    """Pixels; larger pictures are shrunk before, for the square of a panorama is out of bounds."""

    def __init__(
        self,
        image_size: int,
        colour: tuple[int, int, int] = (122, 116, 104),
        num_frames: int | None = None,
    ) -> None:
        """Choose the colour.

        Args:
            image_size: Width and height in pixels of what the encoder takes.
            colour: Red, green and blue of what is added, 0 to 255.
            num_frames: Frames of a video that the encoder sees as pictures.
        """
        super().__init__(image_size, num_frames)
        self.colour = colour

    def _cut(self, picture: Image) -> Sequence[Medium]:
        shown = picture.pil
        if (shrink := self.MAX_SIDE / max(shown.size)) < 1:
            shown = shown.resize([max(1, int(length * shrink)) for length in shown.size])
        side = max(shown.size)
        square = PILImage.new("RGB", (side, side), tuple(self.colour))
        square.paste(shown, ((side - shown.width) // 2, (side - shown.height) // 2))
        return [Image(square)]
