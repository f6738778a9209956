"""Time the chat of the micro model beside the bare parts that it is made of.

Every row is the median of some runs of both sides, taken in turn; nothing else should run.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel

from nextgpt import Audio, Conversation, Image, Modality, NextGPT
from nextgpt.base_model import model_directory
from nextgpt.engine import Engine
from nextgpt.events import Done, MediaProgress
from nextgpt.memory import Memory

QUESTION = "Tell me something about the animals that live near a river."
PICTURE_QUESTION = "Please draw a cat on a yellow background."
CLIP_QUESTION = "Show me a rocket flying up."
LATER_QUESTIONS = ("And which of them swims?", "Which flies?", "Is any of them dangerous?")


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def first_token_s(model: NextGPT, conversation: Conversation) -> float:
    """Seconds until the first piece of a reply."""
    stream = model.stream(conversation, modalities=[])
    try:
        return timed(lambda: next(stream))
    finally:
        stream.close()


def prefill_s(model: NextGPT, bare: PreTrainedModel, conversation: Conversation) -> float:
    """Seconds of the bare language model's pass over the same prompt."""
    plan = model.model.prompter.generation_plan(conversation, 256)
    with torch.inference_mode():
        return timed(lambda: bare(plan.input_ids[None], use_cache=True))


def tokens_per_second(model: NextGPT, bare: PreTrainedModel) -> tuple[float, float]:
    """Tokens a second of a reply in text, and of ``generate`` on the same prompt and as many."""
    conversation = Conversation().user(QUESTION)
    plan = model.model.prompter.generation_plan(conversation, 256)
    forget(model)
    message = None
    started = time.perf_counter()
    for event in model.stream(conversation, modalities=[], max_new_tokens=64):
        message = event.message if isinstance(event, Done) else None
    ours_s = time.perf_counter() - started
    assert message is not None, "a stream ends with Done"
    tokenizer = model.model.language_model.tokenizer
    count = len(tokenizer.encode(message.text, add_special_tokens=False)) + 1
    with torch.inference_mode():
        theirs_s = timed(
            lambda: bare.generate(
                plan.input_ids[None], max_new_tokens=count, min_new_tokens=count, do_sample=False
            )
        )
    return count / ours_s, count / theirs_s


def picture_reply(model: NextGPT) -> tuple[float, float]:
    """Seconds of a reply with a picture, and of its text and the bare pipeline one by one."""
    conversation = Conversation().user(PICTURE_QUESTION)
    forget(model)
    ours_s = timed(lambda: list(model.stream(conversation, modalities=["image"])))
    forget(model)
    pieces = []
    text_s = timed(lambda: pieces.extend(model.write([conversation], modalities=["image"])))
    conditioning = pieces[-1][1].conditioning
    decoder = model.model.decoders[Modality.IMAGE]
    pipeline = decoder._loaded_pipeline()
    with torch.inference_mode():
        pipeline_s = timed(
            lambda: pipeline(
                prompt_embeds=conditioning,
                negative_prompt_embeds=decoder.encode_text([""]),
                num_inference_steps=decoder.num_inference_steps,
                guidance_scale=decoder.guidance_scale,
                height=64,
                width=64,
            )
        )
    return ours_s, text_s + pipeline_s


def eighth_turn(model: NextGPT) -> tuple[float, float]:
    """Seconds to the first token at turn 8 of a chat with four media, and at turn 1."""
    forget(model)
    rng = np.random.default_rng(0)
    media = [Image(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(2)]
    sounds = [Audio(rng.normal(0, 0.1, 16_000).astype(np.float32), sample_rate_hz=16_000)] * 2
    conversation, first_s = Conversation(), 0.0
    shown = [[], [media[0]], [], [sounds[0]], [], [media[1]], [sounds[1]], []]
    for turn, parts in enumerate(shown):
        conversation.user(*parts, QUESTION if turn in (0, 7) else LATER_QUESTIONS[turn % 3])
        seconds = first_token_s(model, conversation)
        if turn == 0:
            first_s = seconds
        reply = model.chat(conversation, modalities=[], max_new_tokens=24)
        conversation.messages.append(reply)
    return seconds, first_s


def stop_s(engine: Engine) -> float:
    """Seconds from closing a stream in the middle of a clip until nothing computes any more."""
    stream = engine.stream(Conversation().user(CLIP_QUESTION), modalities=["video"])
    next(event for event in stream if isinstance(event, MediaProgress))
    time.sleep(random.random() / 4)  # anywhere in a step
    return timed(stream.close)


def forget(model: NextGPT) -> None:
    """Make the next reply a first one."""
    model.memory = Memory()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each side")
    options = parser.parse_args()
    model = NextGPT.from_pretrained()
    bare_model = AutoModelForCausalLM.from_pretrained(
        model_directory(model.model.language_model.source), dtype=torch.float32
    )
    model.chat(PICTURE_QUESTION, modalities=["image"])  # loads what loads on first use
    conversation = Conversation().user(QUESTION)

    def first_token() -> tuple[float, float]:
        forget(model)
        return first_token_s(model, conversation), prefill_s(model, bare_model, conversation)

    table = Table("what", "ours", "bare", "ratio", "wanted")
    rows: tuple[tuple[str, Callable[[], tuple[float, float]], str], ...] = (
        ("seconds to the first token; bare prefill", first_token, "at most 1.2"),
        (
            "tokens a second; generate",
            lambda: tokens_per_second(model, bare_model),
            "at least 0.95",
        ),
        ("reply with a picture; text + pipeline", lambda: picture_reply(model), "at most 1.1"),
        ("first token at turn 8; at turn 1", lambda: eighth_turn(model), "at most 1.3"),
    )
    for name, measure, wanted in rows:
        pairs = [measure() for _ in range(options.runs)]
        ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        table.add_row(name, f"{ours:.3f}", f"{bare:.3f}", f"{ours / bare:.2f}", wanted)
    engine = Engine(lambda: model)
    stops = statistics.median(stop_s(engine) for _ in range(options.runs))
    table.add_row("seconds to stop", f"{stops:.3f}", "", "", "less than 0.5")
    Console().print(table)


if __name__ == "__main__":
    main()
