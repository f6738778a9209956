"""Rows about whole replies: which media they hold, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from nextgpt.evaluation.requests import SAMPLED_KINDS, Request
from nextgpt.evaluation.results import Row, Sample
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.world.dialogue_writer import WISHES

if TYPE_CHECKING:
    from nextgpt.evaluation.runner import Evaluation

NUM_REQUESTS = 300
NUM_QUESTIONS = 100
NUM_INSIDE = 60
NO_MEDIUM = "no medium"
PICTURE_REQUESTS = ("Please draw a cat on a yellow background.", "Now a rocket on black, please.")
EVERY_MEDIUM_REQUESTS = (
    "Please draw a cat, let me hear a trumpet and show me a car moving right.",
    "Now draw a dog, let me hear a violin and show me a rocket moving up.",
)


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """Whether replies hold exactly what was asked for, none of them rendered."""
    requests = evaluation.requests
    samples = replied(evaluation, "requests", requests)
    yield Row.proportion("reply holds exactly the requested media", samples, 0.95)
    asking = [s for s, request in zip(samples, requests, strict=True) if request.expected]
    missing = max(0, evaluation.at_most(NUM_REQUESTS) - len(asking))
    more = evaluation.further(SAMPLED_KINDS, missing, "requests", lambda r: bool(r.expected))
    asking += replied(evaluation, "further_requests", more)
    yield Row.proportion("reply holds exactly the requested media, one to three", asking, 0.98)
    plain = evaluation.further(("chat",), NUM_QUESTIONS, "questions")
    samples = replied(evaluation, "questions", plain)
    yield Row.proportion("reply to a plain question holds no medium", samples, 0.99)
    samples = replied(evaluation, "outside", evaluation.outside_requests)
    yield Row.proportion("wish for a thing outside the world is refused", samples, 0.90)
    inside = evaluation.further(tuple(WISHES), NUM_INSIDE, "inside")
    samples = replied(evaluation, "inside", inside)
    granted = [replace(sample, is_right=sample.seen != NO_MEDIUM) for sample in samples]
    yield Row.proportion("wish for a thing inside the world is granted", granted, 0.97)


def replied(evaluation: Evaluation, name: str, requests: Sequence[Request]) -> list[Sample]:
    """Hold the media of written replies against those requested."""
    written = evaluation.written(name, requests)
    samples = []
    for request in requests:
        reply = written[request.id]
        wanted = [medium.modality for medium in request.expected]
        sample = Sample(
            wanted=", ".join(wanted) or NO_MEDIUM,
            seen=", ".join(reply.modalities) or NO_MEDIUM,
            is_right=reply.modalities == wanted,
            asked=evaluation.conversation_of(request),
            reply=Message("assistant", [reply.text]),
        )
        samples.append(sample)
    return samples


def seconds(evaluation: Evaluation) -> Iterator[Row]:
    """Seconds of the second of two replies with one picture, and with one medium of each kind."""
    if Modality.IMAGE in evaluation.made:
        value = _seconds(evaluation, PICTURE_REQUESTS, [Modality.IMAGE])
        yield _row("seconds for a reply with one picture", value, 8.0)
    if evaluation.made >= {Modality.IMAGE, Modality.AUDIO, Modality.VIDEO}:
        value = _seconds(evaluation, EVERY_MEDIUM_REQUESTS, sorted(evaluation.made))
        yield _row("seconds for a reply with a picture, a sound and a video", value, 12.0)


def _seconds(
    evaluation: Evaluation, requests: tuple[str, ...], modalities: list[Modality]
) -> float:
    total = float("inf")
    for request in requests:
        conversation = Conversation().user(request)
        for event in evaluation.assistant.stream(conversation, modalities=modalities):
            total = getattr(event, "timings", {}).get("total_s", total)
    return total


def _row(metric: str, value: float, target: float) -> Row:
    note = f"{torch.get_num_threads()} threads; second request"
    return Row(metric, value, "<", target, 1, note=note)
