"""The test of a trained chain on what it never saw: ``nextgpt test``."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.evaluation.answers import Answers, Writer, WrittenReply, fingerprint
from nextgpt.evaluation.judge import Judge
from nextgpt.evaluation.nearest import Nearest
from nextgpt.evaluation.photographs import Photograph
from nextgpt.evaluation.requests import (
    ExpectedMedium,
    Request,
    held_out_requests,
    sampled_request,
)
from nextgpt.evaluation.results import Neighbour, Row, Sample
from nextgpt.evaluation.rows import clips, pictures, replies, sounds
from nextgpt.evaluation.sound_judge import SoundJudge
from nextgpt.generation import NextGPT
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.world.conversations import conversation_of
from nextgpt.world.dialogues import DialogueSampler, Kind
from nextgpt.world.phrase_bank import load_bank

NUM_REQUESTS = 300
FIRST_WISH = 20_000
"""Dialogues from here on are wishes for one medium; earlier ones are requests."""
MAX_NEW_TOKENS = 80

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A medium that was asked for, and what came."""

    expected: ExpectedMedium
    medium: Medium | None
    asked: Conversation
    reply: Message
    """The whole of it: it may hold other media as well."""


class Evaluation:
    """Measures one model; an interrupted measurement goes on where it was.

    Args:
        assistant: The model.
        manifest: Of the micro world.
        judge: Says which concept a picture shows.
        sound_judge: Says which instrument a sound is of.
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
        sound_judge: SoundJudge,
        photographs: Sequence[Photograph],
        out: Path,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.assistant = assistant
        self.manifest = manifest
        self.items = read_manifest(manifest)
        self.judge = judge
        self.sound_judge = sound_judge
        self.photographs = photographs
        self.limit = limit
        self.seed = seed
        self.answers = Answers(assistant, out / "raw", seed)
        self.made = set(assistant.model.decoders)
        """The modalities that the model answers in."""
        self.read = set(assistant.model.encoder.modalities)

    def run(self) -> list[Row]:
        """Measure everything that the model can do; returns the rows of the table."""
        return [row for rows in self._rows() for row in rows]

    def _rows(self) -> Iterator[Iterator[Row]]:
        yield replies.rows(self)
        yield pictures.rows(self)
        yield sounds.rows(self)
        yield clips.rows(self)
        yield replies.seconds(self)

    def facts(self) -> dict[str, Any]:
        """What decides the numbers: hashes of model and data, the seed."""
        data = hashlib.sha256(self.manifest.read_bytes()).hexdigest()[:16]
        return {
            "model": fingerprint(self.assistant.model),
            "data": data,
            "seed": self.seed,
            "limit": self.limit,
        }

    def at_most(self, number: int) -> int:
        """Bound a number of cases by the limit."""
        return number if self.limit is None else min(number, self.limit)

    def some(self, cases: Sequence[T], most: int) -> list[T]:
        """Choose cases, always the same; a smaller number is part of a larger one."""
        shuffled = random.Random(self.seed).sample(list(cases), len(cases))
        return shuffled[: self.at_most(most)]

    def items_of(self, modality: Modality, *splits: str) -> list[Item]:
        """List the world's media of a modality in some splits."""
        return [i for i in self.items if i.modality == modality and i.split in splits]

    @property
    def writer(self) -> Writer[Conversation]:
        """Writes the replies to conversations."""
        return partial(self.assistant.write, seed=self.seed, max_new_tokens=MAX_NEW_TOKENS)

    @cached_property
    def sampler(self) -> DialogueSampler:
        """Dialogues in phrasings that training never sees."""
        return DialogueSampler(self.items, "held_out", self.seed)

    @cached_property
    def requests(self) -> list[Request]:
        """The test requests; those about media that the model lacks are left out."""
        possible = [
            request
            for request in held_out_requests(self.items, NUM_REQUESTS, self.seed)
            if request.shown <= self.read
            and {medium.modality for medium in request.expected} <= self.made
        ]
        return self.some(possible, NUM_REQUESTS)

    @cached_property
    def written_requests(self) -> dict[str, WrittenReply]:
        """Replies to the requests, by the requests' ids."""
        return self.answers.write("requests", self._conversations(self.requests), self.writer)

    def conversation_of(self, request: Request) -> Conversation:
        """Make a request the conversation that the model is shown."""
        return conversation_of(request.turns, self.manifest)

    def _conversations(self, requests: Sequence[Request]) -> dict[str, Conversation]:
        return {request.id: self.conversation_of(request) for request in requests}

    def asked(
        self, modality: Modality, kind: Kind | None = None, num_wishes: int = 0
    ) -> list[Case]:
        """Render what the requests, and further wishes, ask for in one modality.

        Args:
            modality: Which media.
            kind: Of the further wishes.
            num_wishes: How many further wishes.

        Returns:
            A case a medium asked for; those of a reply are taken in order, and may be missing.
        """
        cases = self._cases("requests", self.requests, modality)
        if kind is not None and kind in self.sampler.possible_kinds:
            numbers = range(FIRST_WISH, FIRST_WISH + self.at_most(num_wishes))
            wishes = [sampled_request(self.sampler, number, kind) for number in numbers]
            cases += self._cases(kind, wishes, modality)
        return cases

    def _cases(self, name: str, requests: Sequence[Request], modality: Modality) -> list[Case]:
        wanted = {request.id for request in requests if request.expected}
        conversations = self._conversations(requests)
        messages = self.answers.get(name, conversations, self.writer, rendered=wanted)
        cases = []
        for request in requests:
            expected = [medium for medium in request.expected if medium.modality == modality]
            if expected:
                reply = messages[request.id]
                media = [medium for medium in reply.media if medium.modality == modality]
                padded = [*media, *[None] * len(expected)]
                pairs = zip(expected, padded, strict=False)
                asked = conversations[request.id]
                cases += [Case(wish, medium, asked, reply) for wish, medium in pairs]
        return cases

    def answered(
        self,
        name: str,
        items: Sequence[Item],
        sections: Sequence[str],
        read: Callable[[str, Item], Sample],
    ) -> list[Sample]:
        """Ask one question about each item.

        Args:
            name: Of the set of replies.
            items: What the questions are about.
            sections: Of the phrase bank, for the questions; those with slots are passed over.
            read: Gives the verdict on the text of a reply.
        """
        phrases = load_bank("held_out").phrases
        questions = [q for section in sections for q in phrases[section] if "{" not in q]
        rng = random.Random(self.seed)
        conversations = {
            item.id: Conversation().user(medium_of(item, self.manifest), rng.choice(questions))
            for item in items
        }
        written = self.answers.write(name, conversations, self.writer)
        samples = []
        for item in items:
            text = written[item.id].text
            reply = Message("assistant", [text])
            samples.append(replace(read(text, item), asked=conversations[item.id], reply=reply))
        return samples

    def neighbours(self, modality: Modality, cases: Sequence[Case]) -> list[Neighbour | None]:
        """Find the training media most like the generated ones; None where none came."""
        media = [case.medium for case in cases if case.medium is not None]
        trained = self.items_of(modality, "train")
        if not media or not trained:
            return [None for _ in cases]
        found = iter(Nearest(trained, self.manifest).neighbours(media))
        return [None if case.medium is None else next(found) for case in cases]
