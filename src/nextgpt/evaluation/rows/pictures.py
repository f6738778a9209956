"""Rows about pictures: those generated, and what is said about held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from nextgpt.data.conversations import medium_of
from nextgpt.decoders import Decoder
from nextgpt.encoders import MicroBindEncoder
from nextgpt.evaluation.answers import Draft
from nextgpt.evaluation.metrics import Row, background_of, concepts_named
from nextgpt.evaluation.report import Sample
from nextgpt.generation import MediumRequest
from nextgpt.media import Image
from nextgpt.modality import Modality
from nextgpt.training.parts.binding import name_vectors
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.conversations import conversation_of

if TYPE_CHECKING:
    from nextgpt.data.manifest import Item
    from nextgpt.evaluation.runner import Case, Evaluation

NUM_CAPTIONS = 160
NUM_JUDGED = 400
NUM_COMPARED = 100
FIRST_COMPARED = 10_000
"""Dialogues from here on compare signal tokens with captions; earlier ones are requests."""


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """All rows about pictures that the model makes or looks at."""
    if Modality.IMAGE in evaluation.made:
        yield from generated(evaluation, evaluation.asked(Modality.IMAGE))
        yield judged_drawings(evaluation)
    if Modality.IMAGE in evaluation.read:
        yield captions(evaluation)
        yield recognised_photographs(evaluation)
    if Modality.IMAGE in evaluation.made:
        yield signals_against_text(evaluation)


def generated(evaluation: Evaluation, cases: Sequence[Case]) -> Iterator[Row]:
    """Whether generated pictures show the requested concept on the requested background."""
    concepts, backgrounds = [], []
    for case in cases:
        expected, seen, background = case.expected, None, None
        if isinstance(case.medium, Image):
            picture = case.medium.pil
            seen = evaluation.judge.concepts_in([picture])[0]
            background = background_of(picture)
            asked = f"{expected.concept}, {expected.background}"
            sample = Sample(picture, asked, seen, case.text, seen == expected.concept)
            evaluation.samples["pictures"].append(sample)
        concepts.append(seen == expected.concept)
        if expected.background is not None:
            backgrounds.append(background == expected.background)
    yield Row.proportion(
        "generated picture shows the requested concept",
        concepts,
        0.70,
        note="says the judge; a missing picture counts as wrong; "
        f"{evaluation.nearness(Modality.IMAGE, cases)}",
    )
    yield Row.proportion("background colour as requested", backgrounds, 0.85)


def judged_drawings(evaluation: Evaluation) -> Row:
    """How often the judge is right on drawings by artists it was not trained on."""
    items = evaluation.items_of(Modality.IMAGE, "validation", "held_out_drawing")
    items = evaluation.some(items, NUM_JUDGED)
    seen = evaluation.judge.concepts_in([_picture(item, evaluation).pil for item in items])
    verdicts = [name == item.concept for name, item in zip(seen, items, strict=True)]
    return Row.proportion("the judge itself, on drawings it has not seen", verdicts, 0.95)


def _picture(item: Item, evaluation: Evaluation) -> Image:
    medium = medium_of(item, evaluation.manifest)
    assert isinstance(medium, Image), f"{item.id} is no picture"
    return medium


def captions(evaluation: Evaluation) -> Row:
    """Whether the answer names what a held-out drawing shows, and nothing else."""
    items = evaluation.items_of(Modality.IMAGE, "held_out_drawing")
    items = evaluation.some(items, NUM_CAPTIONS)
    texts = evaluation.answered("captions", items, ("look_concept", "look_all"))
    verdicts = [concepts_named(texts[item.id]) == {item.concept} for item in items]
    return Row.proportion("caption of a held-out drawing names the concept", verdicts, 0.75)


def recognised_photographs(evaluation: Evaluation) -> Row:
    """Whether the encoder puts photographs nearest to their concept's name."""
    encoder = evaluation.assistant.model.encoder
    assert isinstance(encoder, MicroBindEncoder), "the row is about micro-bind"
    names = list(CONCEPTS)
    found = evaluation.some(evaluation.photographs, len(evaluation.photographs))
    pixels = [encoder.preprocess(Modality.IMAGE, photograph.image) for photograph in found]
    with torch.inference_mode():
        nearest = (
            encoder.vectors(Modality.IMAGE, torch.stack(pixels)) @ name_vectors(names).T
        ).argmax(dim=1)
    verdicts = [
        names[index] == photograph.concept
        for index, photograph in zip(nearest.tolist(), found, strict=True)
    ]
    return Row.proportion("photograph is nearest to its concept", verdicts, 0.40, ">")


def signals_against_text(evaluation: Evaluation) -> Row:
    """Pictures from signal tokens against pictures from the caption handed to the decoder."""
    numbers = range(evaluation.at_most(NUM_COMPARED))
    dialogues = [evaluation.sampler(FIRST_COMPARED + number, "draw") for number in numbers]
    wishes = {
        f"{number:03d}": (turns[:-1], turns[-1].pictures[0])
        for number, turns in enumerate(dialogues)
    }
    decoder = evaluation.assistant.model.decoders[Modality.IMAGE]
    drafts: dict[str, dict[str, Draft]] = {
        "signals": {
            id_: evaluation.draft(conversation_of(turns, evaluation.manifest))
            for id_, (turns, _) in wishes.items()
        },
        "captions_as_text": {
            id_: partial(_from_caption, decoder, picture.caption)
            for id_, (_, picture) in wishes.items()
        },
    }
    hits = {}
    for name, each in drafts.items():
        replies = evaluation.answers.get(name, each)
        hits[name] = sum(
            bool(reply.images)
            and evaluation.judge.concepts_in([reply.images[0].pil])[0]
            == wishes[id_][1].scene.concept
            for id_, reply in replies.items()
        )
    signals, text = hits["signals"], hits["captions_as_text"]
    note = f"{signals} pictures right from signal tokens, {text} from the caption as text"
    ratio = signals / max(text, 1)
    return Row("signal tokens over caption as text", ratio, ">=", 0.9, len(wishes), note=note)


def _from_caption(decoder: Decoder, caption: str) -> list[str | MediumRequest]:
    """Request a picture by the caption itself, as the decoder's own text encoder reads it."""
    return [MediumRequest(Modality.IMAGE, decoder.encode_text([caption]))]
