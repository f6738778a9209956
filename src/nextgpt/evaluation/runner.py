"""The test of a trained chain on what it never saw: ``nextgpt test``."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.decoders import Decoder
from nextgpt.encoders import MicroBindEncoder
from nextgpt.evaluation.answers import Answers, Draft, fingerprint
from nextgpt.evaluation.judge import Judge
from nextgpt.evaluation.metrics import Row, background_of, concepts_named
from nextgpt.evaluation.photographs import Photograph
from nextgpt.evaluation.report import Sample
from nextgpt.evaluation.requests import ExpectedMedium, held_out_requests
from nextgpt.generation import MediumRequest, NextGPT
from nextgpt.media import Image
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.training.parts.binding import name_vectors
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.conversations import conversation_of
from nextgpt.world.dialogues import DialogueSampler
from nextgpt.world.phrase_bank import load_bank

NUM_REQUESTS = 200
NUM_CAPTIONS = 160
NUM_JUDGED = 400
NUM_COMPARED = 100
FIRST_COMPARED = 10_000
"""Dialogues from here on compare signal tokens with captions; earlier ones are requests."""
MAX_NEW_TOKENS = 80
TIMED_REQUESTS = ("Please draw a cat on a yellow background.", "Now a rocket on black, please.")


class Evaluation:
    """Measures one model; an interrupted measurement goes on where it was.

    Args:
        assistant: The model.
        manifest: Of the micro world.
        judge: Says which concept a picture shows.
        photographs: Real photographs of the world's concepts.
        out: Receives ``raw``, the replies as JSON lines and media.
        limit: Cases of each row at most; all when None.
        seed: Of the choice of cases and of the media.
    """

    def __init__(
        self,
        assistant: NextGPT,
        manifest: Path,
        judge: Judge,
        photographs: Sequence[Photograph],
        out: Path,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.assistant = assistant
        self.manifest = manifest
        self.items = read_manifest(manifest)
        self.judge = judge
        self.photographs = photographs
        self.limit = limit
        self.seed = seed
        self.answers = Answers(assistant, out / "raw", seed)
        self.samples: list[Sample] = []
        """Generated pictures with what was asked for and what the judge saw."""

    def run(self) -> list[Row]:
        """Measure everything; returns the rows of the table."""
        return [
            *self.requests(),
            self.judged_drawings(),
            self.captions(),
            self.recognised_photographs(),
            self.signals_against_text(),
            self.seconds(),
        ]

    def facts(self) -> dict[str, Any]:
        """What decides the numbers: hashes of model and data, the seed."""
        data = hashlib.sha256(self.manifest.read_bytes()).hexdigest()[:16]
        return {
            "model": fingerprint(self.assistant.model),
            "data": data,
            "seed": self.seed,
            "limit": self.limit,
        }

    def _some(self, cases: Sequence, most: int) -> list:
        """Choose cases, always the same; a smaller number is part of a larger one."""
        shuffled = random.Random(self.seed).sample(list(cases), len(cases))
        return shuffled[: most if self.limit is None else min(most, self.limit)]

    def _items(self, *splits: str) -> list[Item]:
        return [item for item in self.items if item.split in splits]

    def _write(self, conversation: Conversation) -> Draft:
        return partial(
            self.assistant.write, conversation, seed=self.seed, max_new_tokens=MAX_NEW_TOKENS
        )

    def requests(self) -> list[Row]:
        """Whether replies hold what was asked for, and whether the pictures show it."""
        requests = self._some(held_out_requests(self.items, NUM_REQUESTS, self.seed), NUM_REQUESTS)
        drafts = {
            request.id: self._write(conversation_of(request.turns, self.manifest))
            for request in requests
        }
        replies = self.answers.get("requests", drafts)
        exact, concepts, backgrounds = [], [], []
        for request in requests:
            reply = replies[request.id]
            asked = [medium.modality for medium in request.expected]
            exact.append([str(medium.modality) for medium in reply.media] == asked)
            pictures: list[Image | None] = [*reply.images, *[None] * len(asked)]
            for expected, picture in zip(request.expected, pictures, strict=False):
                shows, on_background = self._look(picture, expected, reply)
                concepts.append(shows)
                if expected.background is not None:
                    backgrounds.append(on_background)
        return [
            Row.proportion("reply holds exactly the requested media", exact, 0.95),
            Row.proportion(
                "generated picture shows the requested concept",
                concepts,
                0.70,
                note="says the judge; a missing picture counts as wrong",
            ),
            Row.proportion("background colour as requested", backgrounds, 0.85),
        ]

    def _look(
        self, picture: Image | None, expected: ExpectedMedium, reply: Message
    ) -> tuple[bool, bool]:
        """Judge concept and background of a picture that was asked for."""
        if picture is None:
            return False, False
        seen = self.judge.concepts_in([picture.pil])[0]
        self.samples.append(
            Sample(picture.pil, f"{expected.concept}, {expected.background}", seen, reply.text)
        )
        return seen == expected.concept, background_of(picture.pil) == expected.background

    def judged_drawings(self) -> Row:
        """How often the judge is right on drawings by artists it was not trained on."""
        items = self._some(self._items("validation", "held_out_drawing"), NUM_JUDGED)
        seen = self.judge.concepts_in([self._open(item) for item in items])
        verdicts = [name == item.concept for name, item in zip(seen, items, strict=True)]
        return Row.proportion("the judge itself, on drawings it has not seen", verdicts, 0.95)

    def _open(self, item: Item) -> PIL.Image.Image:
        medium = medium_of(item, self.manifest)
        assert isinstance(medium, Image), "the world has pictures only"
        return medium.pil

    def captions(self) -> Row:
        """Whether the answer names what a held-out drawing shows, and nothing else."""
        phrases = load_bank("held_out").phrases
        questions = [
            phrase
            for topic in ("look_concept", "look_all")
            for phrase in phrases[topic]
            if "{" not in phrase
        ]
        items = self._some(self._items("held_out_drawing"), NUM_CAPTIONS)
        rng = random.Random(self.seed)
        drafts = {}
        for item in items:
            picture, question = medium_of(item, self.manifest), rng.choice(questions)
            drafts[item.id] = self._write(Conversation().user(picture, question))
        replies = self.answers.get("captions", drafts)
        verdicts = [concepts_named(replies[item.id].text) == {item.concept} for item in items]
        return Row.proportion("caption of a held-out drawing names the concept", verdicts, 0.75)

    def recognised_photographs(self) -> Row:
        """Whether the encoder puts photographs nearest to their concept's name."""
        encoder = self.assistant.model.encoder
        assert isinstance(encoder, MicroBindEncoder), "the row is about micro-bind"
        names = list(CONCEPTS)
        found = self._some(self.photographs, len(self.photographs))
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

    def signals_against_text(self) -> Row:
        """Pictures from signal tokens against pictures from the caption handed to the decoder."""
        sampler = DialogueSampler(self.items, "held_out", self.seed)
        dialogues = [sampler(FIRST_COMPARED + number, "draw") for number in range(NUM_COMPARED)]
        wishes = {
            f"{number:03d}": (turns[:-1], turns[-1].pictures[0])
            for number, turns in enumerate(dialogues[: self.limit])
        }
        decoder = self.assistant.model.decoders[Modality.IMAGE]
        drafts: dict[str, dict[str, Draft]] = {
            "signals": {
                id_: self._write(conversation_of(turns, self.manifest))
                for id_, (turns, _) in wishes.items()
            },
            "captions_as_text": {
                id_: partial(_from_caption, decoder, picture.caption)
                for id_, (_, picture) in wishes.items()
            },
        }
        hits = {}
        for name, each in drafts.items():
            replies = self.answers.get(name, each)
            hits[name] = sum(
                bool(reply.images)
                and self.judge.concepts_in([reply.images[0].pil])[0] == wishes[id_][1].scene.concept
                for id_, reply in replies.items()
            )
        signals, text = hits["signals"], hits["captions_as_text"]
        note = f"{signals} pictures right from signal tokens, {text} from the caption as text"
        ratio = signals / max(text, 1)
        return Row("signal tokens over caption as text", ratio, ">=", 0.9, len(wishes), note=note)

    def seconds(self) -> Row:
        """Seconds of the second of two replies with one picture."""
        total = float("inf")
        for request in TIMED_REQUESTS:
            for event in self.assistant.stream(Conversation().user(request), modalities=["image"]):
                total = getattr(event, "timings", {}).get("total_s", total)
        threads = torch.get_num_threads()
        note = f"{threads} threads; second request"
        return Row("seconds for a reply with one picture", total, "<", 8.0, 1, note=note)


def _from_caption(decoder: Decoder, caption: str) -> list[str | MediumRequest]:
    """Request a picture by the caption itself, as the decoder's own text encoder reads it."""
    return [MediumRequest(Modality.IMAGE, decoder.encode_text([caption]))]
