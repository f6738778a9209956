"""Rows about pictures: those generated, and what is said about held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from nextgpt.data.conversations import medium_of
from nextgpt.decoders import Decoder
from nextgpt.encoders import MicroBindEncoder
from nextgpt.evaluation.metrics import Row, background_of, concepts_named
from nextgpt.evaluation.report import Sample
from nextgpt.media import Image
from nextgpt.modality import Modality
from nextgpt.training.parts.binding import name_vectors
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.conversations import conversation_of
from nextgpt.writing import MediumRequest, Written

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
    wishes = {f"{number:03d}": turns[-1].pictures[0] for number, turns in enumerate(dialogues)}
    conversations = {
        id_: conversation_of(turns[:-1], evaluation.manifest)
        for id_, turns in zip(wishes, dialogues, strict=True)
    }
    captions = {id_: picture.caption for id_, picture in wishes.items()}
    from_captions = partial(_from_captions, evaluation.assistant.model.decoders[Modality.IMAGE])
    answers = evaluation.answers
    hits = []
    for replies in (
        answers.get("signals", conversations, evaluation.writer),
        answers.get("captions_as_text", captions, from_captions),
    ):
        right = sum(
            bool(reply.images)
            and evaluation.judge.concepts_in([reply.images[0].pil])[0] == wishes[id_].scene.concept
            for id_, reply in replies.items()
        )
        hits.append(right)
    signals, text = hits
    note = f"{signals} pictures right from signal tokens, {text} from the caption as text"
    ratio = signals / max(text, 1)
    return Row("signal tokens over caption as text", ratio, ">=", 0.9, len(wishes), note=note)


def _from_captions(decoder: Decoder, captions: list[str]) -> list[tuple[int, Written]]:
    """Request pictures by the captions themselves, as the decoder's own text encoder reads them."""
    conditioning = decoder.encode_text(captions)
    return [(i, MediumRequest(Modality.IMAGE, each[None])) for i, each in enumerate(conditioning)]
