"""Media of a reply, rendered one step at a time, so that the text goes on in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from nextgpt.decoders import Decoder
from nextgpt.events import MediaFinished, MediaProgress
from nextgpt.media import Medium
from nextgpt.modality import Modality
from nextgpt.placement import Placement
from nextgpt.writing import MediumRequest

T = TypeVar("T")
R = TypeVar("R")


class Rendering:
    """Renders what is asked for, one after the other.

    Language model and decoders take turns in one thread. Two threads that compute keep a pool of
    workers each, and more workers than cores make both twice as slow, also while they wait.

    Args:
        decoders: By modality.
        seed: Medium ``i`` is drawn with ``seed + i``.
        decoding: Arguments of ``Decoder.decode`` by modality, where not the decoder's own.
        preview_every: Steps between previews; 0 for none.
        placement: Where decoders compute.
    """

    def __init__(
        self,
        decoders: Mapping[Modality, Decoder],
        seed: int,
        decoding: Mapping[Modality, Mapping[str, Any]],
        preview_every: int = 0,
        placement: Placement | None = None,
    ) -> None:
        self.decoders, self.seed = decoders, seed
        self.placement = placement or Placement()
        self.decoding, self.preview_every = decoding, preview_every
        self.num_asked = 0
        self._waiting: deque[Generator[MediaProgress | MediaFinished, None, None]] = deque()

    def ask(self, request: MediumRequest) -> int:
        """Render a medium when those before it are ready; returns its number."""
        index = self.num_asked
        self.num_asked += 1
        self._waiting.append(self._rendered(index, request))
        return index

    def step(self) -> MediaProgress | MediaFinished | None:
        """Go one step further; None where nothing is left to do.

        Raises:
            ValueError: as ``Decoder.decode``.
        """
        while self._waiting:
            if (event := next(self._waiting[0], None)) is not None:
                return event
            self._waiting.popleft()
        return None

    def close(self) -> None:
        """Stop in the middle of whatever is rendered, and forget the rest."""
        while self._waiting:
            self._waiting.popleft().close()

    def _rendered(
        self, index: int, request: MediumRequest
    ) -> Generator[MediaProgress | MediaFinished, None, None]:
        seed = self.seed + index
        decoder = self.decoders[request.modality]
        self.placement.wake(decoder)
        settings = self.decoding.get(request.modality, {})
        generator = torch.Generator().manual_seed(seed)

        def decode(tell: Callable[[MediaProgress], None]) -> Medium:
            def on_step(step: int, total: int, latents: Tensor) -> None:
                every = self.preview_every
                shown = bool(every) and step % every == 0 and step < total
                tell(MediaProgress(index, step, total, decoder.preview(latents) if shown else None))

            return decoder.decode(request.conditioning, generator, on_step=on_step, **settings)[0]

        medium = yield from stepwise(decode)
        medium.seed = seed
        yield MediaFinished(index, medium)


def stepwise(function: Callable[[Callable[[T], None]], R]) -> Generator[T, None, R]:
    """Turn a function that tells what happens into a generator that pauses at each telling.

    It runs in the thread of whoever iterates, which must stay the same; closing the generator ends
    the function where it is, with an exception that runs its ``finally`` blocks.

    Args:
        function: Called with ``tell``.

    Yields:
        What ``tell`` is called with.

    Returns:
        What the function returns.
    """
    current: greenlet = getcurrent()

    def tell(event: T) -> None:
        current.switch(event)

    worker = greenlet(lambda: function(tell))
    try:
        while True:
            # The thread's greenlet that iterates now may be another than a step ago.
            current = worker.parent = getcurrent()
            event = worker.switch()
            if worker.dead:
                return event
            yield event
    finally:
        if not worker.dead:
            worker.throw()
