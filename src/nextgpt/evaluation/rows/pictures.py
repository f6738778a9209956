"""Rows about pictures: those generated, and what is said about held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from nextgpt.data.conversations import medium_of
from nextgpt.decoders import Decoder
from nextgpt.encoders import MicroBindEncoder
from nextgpt.evaluation.layout import things_in
from nextgpt.evaluation.metrics import background_of, concepts_named
from nextgpt.evaluation.requests import ExpectedMedium
from nextgpt.evaluation.results import (
    NOTHING,
    Case,
    Neighbour,
    Row,
    Sample,
    judged,
    judged_case,
    nearness,
)
from nextgpt.media import Image
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.training.parts.binding import name_vectors
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.conversations import conversation_of
from nextgpt.world.dialogues import Picture
from nextgpt.writing import MediumRequest, Written

if TYPE_CHECKING:
    from nextgpt.data.manifest import Item
    from nextgpt.evaluation.photographs import Photograph
    from nextgpt.evaluation.runner import Evaluation

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
        yield artist_captions(evaluation)
        yield photograph_captions(evaluation)
        yield recognised_photographs(evaluation)
    if Modality.IMAGE in evaluation.made:
        yield signals_against_text(evaluation)


def generated(evaluation: Evaluation, cases: Sequence[Case]) -> Iterator[Row]:
    """Whether generated pictures show the requested concept on the requested background."""
    concepts, backgrounds = [], []
    neighbours = evaluation.neighbours(Modality.IMAGE, cases)
    for case, nearest in zip(cases, neighbours, strict=True):
        found = judged_picture(evaluation, case, nearest)
        # Two things have a row of their own.
        if case.expected.second is None:
            concepts.append(found)
        if (wanted := case.expected.background) is not None:
            seen = background_of(case.medium.pil) if isinstance(case.medium, Image) else NOTHING
            is_right = seen == wanted
            backgrounds.append(
                replace(found, wanted=wanted, seen=seen, is_right=is_right, share=None)
            )
    yield Row.proportion(
        "generated picture shows the requested concept",
        concepts,
        0.90,
        note=f"says the judge; a missing picture counts as wrong; {nearness(neighbours)}",
    )
    yield Row.proportion("background colour as requested", backgrounds, 0.95)


def judged_picture(evaluation: Evaluation, case: Case, nearest: Neighbour | None = None) -> Sample:
    """Let the judge say whether the picture that came shows what was asked for; none is wrong."""
    if case.expected.second is not None:
        return _judged_couple(evaluation, case, nearest)
    shares = None
    if isinstance(case.medium, Image):
        [shares] = evaluation.material.judge.shares_in([case.medium.pil])
    return judged_case(case, shares, nearest)


def _judged_couple(evaluation: Evaluation, case: Case, nearest: Neighbour | None) -> Sample:
    """Let the judge name each of the things side by side; both wanted must be among them."""
    wanted = {case.expected.concept, str(case.expected.second)}
    things = things_in(case.medium.pil) if isinstance(case.medium, Image) else []
    seen = [shares.likeliest for shares in evaluation.material.judge.shares_in(things)]
    return Sample(
        " and ".join(sorted(wanted)),
        " and ".join(sorted(seen)) or NOTHING,
        wanted <= set(seen),
        case.asked,
        case.reply,
        nearest=nearest,
    )


def judged_drawings(evaluation: Evaluation) -> Row:
    """How often the judge is right on drawings by artists it was not trained on."""
    items = evaluation.items_of(Modality.IMAGE, "validation", "held_out_drawing")
    items = evaluation.some(items, NUM_JUDGED)
    shown = [_picture(item, evaluation) for item in items]
    verdicts = evaluation.material.judge.shares_in([picture.pil for picture in shown])
    samples = [
        judged(item.concept, shares, picture)
        for item, shares, picture in zip(items, verdicts, shown, strict=True)
    ]
    counts = []
    origins = {"validation": "the model's artists", "held_out_drawing": "one whom nobody knows"}
    for split, artists in origins.items():
        pairs = zip(samples, items, strict=True)
        of_split = [sample.is_right for sample, item in pairs if item.split == split]
        counts.append(f"{sum(of_split)} of {len(of_split)} by {artists}")
    return Row.proportion(
        "the judge itself, on drawings it has not seen", samples, 0.97, note=", ".join(counts)
    )


def _picture(item: Item, evaluation: Evaluation) -> Image:
    medium = medium_of(item, evaluation.manifest)
    assert isinstance(medium, Image), f"{item.id} is no picture"
    return medium


def captions(evaluation: Evaluation) -> Row:
    """Whether the answer names what is shown where it was never seen, and nothing else."""
    items = evaluation.items_of(Modality.IMAGE, "held_out_pair")
    items = [item for item in items if item.attributes["second"] is None]
    metric = "caption of a drawing on a background it was never seen on names the concept"
    return _captions(evaluation, "captions", items, metric, 0.90)


def artist_captions(evaluation: Evaluation) -> Row:
    """Whether the answer names what an artist drew who was never seen, and nothing else."""
    items = evaluation.items_of(Modality.IMAGE, "held_out_drawing")
    metric = "caption of a drawing by an artist never seen names the concept"
    return _captions(evaluation, "artist_captions", items, metric, 0.75)


def _captions(
    evaluation: Evaluation, name: str, items: Sequence[Item], metric: str, target: float
) -> Row:
    items = evaluation.some(items, NUM_CAPTIONS)
    samples = evaluation.answered(name, items, ("look_concept", "look_all"), _concept_read)
    return Row.proportion(metric, samples, target)


def _concept_read(text: str, shown: Item | Photograph) -> Sample:
    named = concepts_named(text)
    return Sample(shown.concept, ", ".join(sorted(named)) or NOTHING, named == {shown.concept})


def photograph_captions(evaluation: Evaluation) -> Row:
    """Whether the answer names what a photograph shows, and nothing else."""
    found = evaluation.some(evaluation.material.photographs)
    samples = evaluation.answered("photographs", found, ("look_concept",), _concept_read)
    return Row.proportion("caption of a photograph names the concept", samples, 0.45)


def recognised_photographs(evaluation: Evaluation) -> Row:
    """Whether the encoder puts photographs nearest to their concept's name."""
    encoder = evaluation.assistant.model.encoder
    assert isinstance(encoder, MicroBindEncoder), "the row is about micro-bind"
    names = list(CONCEPTS)
    found = evaluation.some(evaluation.material.photographs)
    pixels = [encoder.preprocess(Modality.IMAGE, photograph.image) for photograph in found]
    with torch.inference_mode():
        vectors = encoder.vectors(Modality.IMAGE, torch.stack(pixels))
        nearest = (vectors @ name_vectors(names).T).argmax(dim=1).tolist()
    samples = [
        Sample(
            photograph.concept,
            names[index],
            names[index] == photograph.concept,
            Conversation().user(photograph.image),
        )
        for index, photograph in zip(nearest, found, strict=True)
    ]
    return Row.proportion("photograph is nearest to its concept", samples, 0.40, ">")


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
    writer = partial(from_captions, evaluation.assistant.model.decoders[Modality.IMAGE])
    answers = evaluation.answers
    compared = {
        "signal tokens": answers.get("signals", conversations, evaluation.writer),
        "caption as text": answers.get("captions_as_text", captions, writer),
    }
    samples: dict[str, list[Sample]] = {
        means: [_compared(evaluation, wishes[id_], reply, means) for id_, reply in replies.items()]
        for means, replies in compared.items()
    }
    signals, text = (sum(sample.is_right for sample in found) for found in samples.values())
    note = f"{signals} pictures right from signal tokens, {text} from the caption as text"
    return Row(
        "signal tokens over caption as text",
        signals / max(text, 1),
        ">=",
        0.97,
        len(wishes),
        note=note,
        samples=[sample for pair in zip(*samples.values(), strict=True) for sample in pair],
    )


def _compared(evaluation: Evaluation, wish: Picture, reply: Message, means: str) -> Sample:
    asked = Conversation().user(f"{wish.caption} ({means})")
    medium = reply.images[0] if reply.images else None
    return judged_picture(evaluation, Case(ExpectedMedium.of(wish), medium, asked, reply))


def from_captions(decoder: Decoder, captions: list[str]) -> list[tuple[int, Written]]:
    """Request pictures by the captions themselves, as the decoder's own text encoder reads them."""
    conditioning = decoder.encode_text(captions)
    return [(i, MediumRequest(Modality.IMAGE, each[None])) for i, each in enumerate(conditioning)]
