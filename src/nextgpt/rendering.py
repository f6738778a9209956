"""Media of a reply, rendered by a thread of their own, while the text goes on or behind it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch

from nextgpt.decoders import Decoder
from nextgpt.events import MediaFinished, MediaProgress
from nextgpt.modality import Modality
from nextgpt.writing import MediumRequest


class Rendering:
    """Renders what is asked for, one after the other; leaving the block stops it within a step.

    Args:
        decoders: By modality.
        seed: Medium ``i`` is drawn with ``seed + i``.
        beside_text: Whether to begin at once, or when ``rest`` is asked for.
    """

    def __init__(
        self, decoders: Mapping[Modality, Decoder], seed: int, beside_text: bool = True
    ) -> None:
        self.decoders, self.seed, self.beside_text = decoders, seed, beside_text
        self._waiting: list[tuple[int, MediumRequest]] = []
        self.num_asked = self.num_finished = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rendering")
        self._events: queue.Queue[MediaProgress | MediaFinished | Exception] = queue.Queue()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._worker.shutdown(cancel_futures=True)

    def ask(self, request: MediumRequest) -> int:
        """Render a medium when those before it are ready; returns its number."""
        index = self.num_asked
        self.num_asked += 1
        self._waiting.append((index, request))
        if self.beside_text:
            self._begin()
        return index

    def _begin(self) -> None:
        for waiting in self._waiting:
            self._worker.submit(self._render, *waiting)
        self._waiting.clear()

    def _render(self, index: int, request: MediumRequest) -> None:
        def on_step(step: int, total: int) -> None:
            if self._stopped.is_set():
                raise InterruptedError("the reply was stopped")
            self._events.put(MediaProgress(index, step, total))

        try:
            seed = self.seed + index
            generator = torch.Generator().manual_seed(seed)
            decoder = self.decoders[request.modality]
            medium = decoder.decode(request.conditioning, generator, on_step=on_step)[0]
            medium.seed = seed
            self._events.put(MediaFinished(index, medium))
        except Exception as error:
            # It belongs to whoever waits for the medium, in another thread.
            self._events.put(error)

    def news(self) -> Iterator[MediaProgress | MediaFinished]:
        """Yield what has happened since, without waiting.

        Raises:
            ValueError: as ``Decoder.decode``.
        """
        while not self._events.empty():
            yield self._told(self._events.get())

    def rest(self) -> Iterator[MediaProgress | MediaFinished]:
        """Yield what happens until everything asked for is ready; errors as in ``news``."""
        self._begin()
        while self.num_finished < self.num_asked:
            yield self._told(self._events.get())

    def _told(
        self, event: MediaProgress | MediaFinished | Exception
    ) -> MediaProgress | MediaFinished:
        if isinstance(event, Exception):
            raise event
        self.num_finished += isinstance(event, MediaFinished)
        return event
