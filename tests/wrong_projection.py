"""An output projection that gives another width than it is asked for."""

from typing import Any

from nextgpt.projections import OutputProjection


class TooWide(OutputProjection):
    """One number too many at every position."""

    def __init__(
        self, input_size: int, num_signal_tokens: int, conditioning_shape: Any, **sizes: int
    ) -> None:
        length, width = conditioning_shape
        super().__init__(input_size, num_signal_tokens, (length, width + 1), **sizes)
