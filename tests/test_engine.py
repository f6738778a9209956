"""One thread answers everybody, one after the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tiny_chain import tiny_chain

from nextgpt.engine import Engine
from nextgpt.events import Done, MediaProgress
from nextgpt.generation import NextGPT
from nextgpt.messages import Conversation

if TYPE_CHECKING:
    from conftest import TinyParts

QUESTION = Conversation().user("Draw a dog.")


@pytest.fixture
def engine(tiny: TinyParts) -> Engine:
    return Engine(lambda: NextGPT(tiny_chain(tiny)))


def replied(engine: Engine, **options: Any) -> Done:
    *_, done = engine.stream(QUESTION, max_new_tokens=4, **options)
    assert isinstance(done, Done)
    return done


def test_threads_get_the_reply_that_one_gets(engine: Engine) -> None:
    alone = replied(engine, modalities=["image"], seed=3).message
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(replied, engine, modalities=["image"], seed=3) for _ in range(4)]
        for job in jobs:
            message = job.result().message
            assert message.text == alone.text
            assert message.images[0].content_hash() == alone.images[0].content_hash()


def test_a_stream_may_be_read_by_changing_threads(engine: Engine) -> None:
    stream = engine.stream(QUESTION, modalities=["image"], max_new_tokens=4)
    kinds = []
    for _ in range(200):
        with ThreadPoolExecutor(1) as pool:
            event = pool.submit(next, stream, None).result()
        kinds.append(type(event))
        if isinstance(event, Done):
            break
    assert kinds[-1] is Done and MediaProgress in kinds


def test_everything_is_computed_by_the_engines_thread(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    forward = engine.model.model.language_model.forward

    def noted(*arguments: Any, **options: Any) -> Any:
        threads.add(threading.current_thread().name)
        return forward(*arguments, **options)

    monkeypatch.setattr(engine.model.model.language_model, "forward", noted)
    replied(engine, modalities=[])
    assert threads == {"engine_0"}


def test_a_closed_stream_stops_and_the_next_one_is_answered(engine: Engine) -> None:
    decoding = {"image": {"num_inference_steps": 500}}
    stream = engine.stream(QUESTION, modalities=["image"], decoding=decoding)
    step = next(event.step for event in stream if isinstance(event, MediaProgress))
    stream.close()
    assert step < 500
    assert replied(engine, modalities=[]).message.media == []


def test_an_error_reaches_whoever_asked_and_the_engine_lives_on(engine: Engine) -> None:
    with pytest.raises(ValueError, match="cannot answer in 'smell'"):
        replied(engine, modalities=["smell"])
    assert replied(engine, modalities=["image"]).message.images
