"""The test of a trained chain on what it never saw: ``nextgpt test``."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.evaluation.answers import Answers, Writer, WrittenReply, fingerprint
from nextgpt.evaluation.material import Material
from nextgpt.evaluation.nearest import Nearest
from nextgpt.evaluation.photographs import Photograph
from nextgpt.evaluation.requests import (
    Request,
    further_requests,
    held_out_requests,
    outside_requests,
)
from nextgpt.evaluation.results import Case, Neighbour, Row, Sample
from nextgpt.evaluation.rows import attributes, clips, pictures, prose, replies, sounds
from nextgpt.generation import NextGPT
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.world.conversations import conversation_of
from nextgpt.world.dialogues import DialogueSampler, Kind
from nextgpt.world.phrase_bank import load_bank

NUM_REQUESTS = 300
FIRST_OF = {
    "wishes": 20_000,
    "requests": 40_000,
    "questions": 60_000,
    "inside": 80_000,
    "pairs": 100_000,
    "counts": 120_000,
    "places": 140_000,
    "couples": 160_000,
    "pitches": 180_000,
}
"""Set of further requests -> the dialogue that it starts at; earlier ones are the requests."""
MAX_NEW_TOKENS = 80

T = TypeVar("T")
S = TypeVar("S", Item, Photograph)


class Evaluation:
    """Measures one model; an interrupted measurement goes on where it was.

    Args:
        assistant: The model.
        manifest: Of the micro world.
        material: Judges, and what is shown to the model beside the world.
        out: Receives ``raw``, the replies as JSON lines and media.
        limit: Cases of each row at most; all when None.
        seed: Of the choice of cases and of the media.
    """

    def __init__(
        self,
        assistant: NextGPT,
        manifest: Path,
        material: Material,
        out: Path,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.assistant = assistant
        self.manifest = manifest
        self.items = read_manifest(manifest)
        self.material = material
        self.limit = limit
        self.seed = seed
        self.answers = Answers(assistant, out / "raw", seed)
        self.made = set(assistant.model.decoders)
        """The modalities that the model answers in."""
        self.read = set(assistant.model.reads)

    def run(self) -> list[Row]:
        """Measure everything that the model can do; returns the rows of the table."""
        return [row for rows in self._rows() for row in rows]

    def _rows(self) -> Iterator[Iterator[Row]]:
        yield replies.rows(self)
        yield pictures.rows(self)
        yield attributes.rows(self)
        yield sounds.rows(self)
        yield clips.rows(self)
        yield prose.rows(self)
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

    def some(self, cases: Sequence[T], most: int | None = None) -> list[T]:
        """Choose cases, always the same; a smaller number is part of a larger one."""
        shuffled = random.Random(self.seed).sample(list(cases), len(cases))
        return shuffled[: self.at_most(len(cases) if most is None else most)]

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
        requests = held_out_requests(self.items, NUM_REQUESTS, self.seed)
        return self.some(list(filter(self._is_possible, requests)), NUM_REQUESTS)

    def _is_possible(self, request: Request) -> bool:
        wanted = {medium.modality for medium in request.expected}
        return request.shown <= self.read and wanted <= self.made

    def further(
        self,
        kinds: Sequence[Kind],
        num: int,
        name: str,
        fits: Callable[[Request], bool] = lambda request: True,
    ) -> list[Request]:
        """Sample further requests that the model could answer.

        Args:
            kinds: Of the dialogues, in turn.
            num: How many, within the limit.
            name: Of the set; it says which dialogues are looked at.
            fits: What a request must be.
        """
        return further_requests(
            self.sampler,
            kinds,
            self.at_most(num),
            FIRST_OF[name],
            lambda request: self._is_possible(request) and fits(request),
        )

    @property
    def outside_requests(self) -> list[Request]:
        """Wishes for what the world does not hold, in the modalities that the model makes."""
        requests = outside_requests(self.sampler, self.made)
        return self.some(requests)

    def conversation_of(self, request: Request) -> Conversation:
        """Make a request the conversation that the model is shown."""
        return conversation_of(request.turns, self.manifest)

    def _conversations(self, requests: Sequence[Request]) -> dict[str, Conversation]:
        return {request.id: self.conversation_of(request) for request in requests}

    def written(self, name: str, requests: Sequence[Request]) -> dict[str, WrittenReply]:
        """Write replies to further requests, rendering nothing; by the requests' ids."""
        return self.answers.write(name, self._conversations(requests), self.writer)

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
        cases = self.cases("requests", self.requests, modality)
        if kind is not None:
            cases += self.cases(kind, self.further((kind,), num_wishes, "wishes"), modality)
        return cases

    def cases(self, name: str, requests: Sequence[Request], modality: Modality) -> list[Case]:
        """Render what some requests ask for; one case a medium of the modality asked for."""
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
        shown: Sequence[S],
        sections: Sequence[str],
        read: Callable[[str, S], Sample],
    ) -> list[Sample]:
        """Ask one question about each medium.

        Args:
            name: Of the set of replies.
            shown: What the questions are about.
            sections: Of the phrase bank, for the questions; those with slots are passed over.
            read: Gives the verdict on the text of a reply.
        """
        phrases = load_bank("held_out").phrases
        questions = [q for section in sections for q in phrases[section] if "{" not in q]
        rng = random.Random(self.seed)
        conversations = {
            each.id: Conversation().user(self.medium(each), rng.choice(questions)) for each in shown
        }
        written = self.answers.write(name, conversations, self.writer)
        samples = []
        for each in shown:
            text = written[each.id].text
            reply = Message("assistant", [text])
            samples.append(replace(read(text, each), asked=conversations[each.id], reply=reply))
        return samples

    def medium(self, shown: Item | Photograph) -> Medium:
        """Open what is shown."""
        return shown.image if isinstance(shown, Photograph) else medium_of(shown, self.manifest)

    def neighbours(self, modality: Modality, cases: Sequence[Case]) -> list[Neighbour | None]:
        """Find the training media most like the generated ones; None where none came."""
        media = [case.medium for case in cases if case.medium is not None]
        trained = self.items_of(modality, "train")
        if not media or not trained:
            return [None for _ in cases]
        found = iter(Nearest(trained, self.manifest).neighbours(media))
        return [None if case.medium is None else next(found) for case in cases]
