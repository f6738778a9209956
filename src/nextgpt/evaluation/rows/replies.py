"""Rows about whole replies: which media they hold, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from nextgpt.evaluation.results import Row, Sample
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality

if TYPE_CHECKING:
    from nextgpt.evaluation.runner import Evaluation

NO_MEDIUM = "no medium"
PICTURE_REQUESTS = ("Please draw a cat on a yellow background.", "Now a rocket on black, please.")
EVERY_MEDIUM_REQUESTS = (
    "Please draw a cat, let me hear a trumpet and show me a car moving right.",
    "Now draw a dog, let me hear a violin and show me a rocket moving up.",
)


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """Whether replies hold exactly what was asked for, none of them rendered."""
    samples = []
    for request in evaluation.requests:
        written = evaluation.written_requests[request.id]
        wanted = [medium.modality for medium in request.expected]
        sample = Sample(
            wanted=", ".join(wanted) or NO_MEDIUM,
            seen=", ".join(written.modalities) or NO_MEDIUM,
            is_right=written.modalities == wanted,
            asked=evaluation.conversation_of(request),
            reply=Message("assistant", [written.text]),
        )
        samples.append(sample)
    yield Row.proportion("reply holds exactly the requested media", samples, 0.95)


def seconds(evaluation: Evaluation) -> Iterator[Row]:
    """Seconds of the second of two replies with one picture, and with one medium of each kind."""
    if Modality.IMAGE in evaluation.made:
        value = _seconds(evaluation, PICTURE_REQUESTS, [Modality.IMAGE])
        yield _row("seconds for a reply with one picture", value, 8.0)
    if evaluation.made >= {Modality.IMAGE, Modality.AUDIO, Modality.VIDEO}:
        value = _seconds(evaluation, EVERY_MEDIUM_REQUESTS, sorted(evaluation.made))
        yield _row("seconds for a reply with a picture, a sound and a video", value, 15.0)


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
