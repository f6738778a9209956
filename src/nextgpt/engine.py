"""One thread that does all of a model's computing, for callers in any thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import Unpack

from nextgpt.events import Done, Event
from nextgpt.generation import NextGPT, ReplyOptions
from nextgpt.messages import Conversation


class Engine:
    """Loads a model and answers in a thread of its own, one request after the other as they come.

    A server's handlers run in changing threads, and ``NextGPT.stream`` wants one; on a processor
    two computing threads are also slower than one after the other.
    """

    def __init__(self, load: Callable[[], NextGPT]) -> None:
        """Load the model.

        Args:
            load: Makes it; called in the engine's thread.
        """
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.model = self._thread.submit(load).result()

    def stream(
        self, conversation: Conversation, **options: Unpack[ReplyOptions]
    ) -> Generator[Event, None, None]:
        """Do as ``NextGPT.stream`` does, from any thread.

        Closing the stream waits until the last step has ended.
        """
        events: queue.Queue[Event | Exception] = queue.Queue()
        unwanted = threading.Event()

        def answer() -> None:
            try:
                with closing(self.model.stream(conversation, **options)) as stream:
                    for event in stream:
                        events.put(event)
                        if unwanted.is_set():
                            return
            except Exception as error:
                # It belongs to whoever waits for the reply, in another thread.
                events.put(error)

        job = self._thread.submit(answer)
        try:
            while True:
                event = events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Done):
                    return
        finally:
            unwanted.set()
            job.cancel()
            wait([job])
