"""The test requests: ninety written by hand, the rest from phrasings kept from training.

Beside the requests that are answered with whatever media are asked for, there are sets of one kind
each: plain questions, things outside the world, pictures of a certain layout, references.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Self

from nextgpt.data.manifest import Item
from nextgpt.modality import Modality
from nextgpt.world.dialogue_writer import DialogueWriter
from nextgpt.world.dialogues import (
    Clip,
    DialogueSampler,
    DialogueTurn,
    Kind,
    Picture,
    Recording,
    Shown,
)
from nextgpt.world.phrase_bank import as_typed, reply
from nextgpt.world.scenes import Place, Scene, Size
from nextgpt.world.sounds import Contour, Register

log = logging.getLogger(__name__)

HAND_WRITTEN_SHARE = 0.3
SAMPLED_KINDS: tuple[Kind, ...] = (
    *("draw", "sound", "animate", "chat", "several", "look", "multi_turn", "draw", "listen"),
    *("chat", "cross", "animate", "sound", "several", "watch", "chat", "draw", "multi_turn"),
    *("pair", "sound", "chat", "look", "animate", "transform", "several", "draw", "listen"),
    *("chat", "multi_turn", "outside"),
)
"""Kinds of the sampled requests, in turn. Wishes outside the world are few: what a reply to one
should hold is a matter of taste."""

MOST_TRIED = 20_000
"""Dialogues that are looked through for some that fit."""
OUTSIDE_REPLIES: dict[Modality, str] = {
    Modality.IMAGE: "outside",
    Modality.AUDIO: "outside_sound",
    Modality.VIDEO: "outside_clip",
}
"""Modality -> section of the replies that refuse a medium."""
# What a part of a request by hand is called that attaches a medium by what it shows.
_ATTACHED = {"scene": Modality.IMAGE, "sound": Modality.AUDIO, "clip": Modality.VIDEO}


@dataclass(frozen=True)
class ExpectedMedium:
    """A medium the reply should hold; what is None the user left open, or it has none."""

    modality: str
    concept: str
    """The thing seen, or the sound's name."""
    background: str | None = None
    motion: str | None = None
    register: Register | None = None
    contour: Contour | None = None
    second: str | None = None
    """Another instrument heard at the same time, or another thing seen."""
    size: Size | None = None
    place: Place | None = None
    count: int | None = None

    @classmethod
    def of(cls, shown: Shown) -> Self:
        """Expect what a good answer of a dialogue shows."""
        if isinstance(shown, Recording):
            scene = shown.scene
            return cls(
                shown.modality,
                scene.sound,
                register=scene.register,
                contour=scene.contour,
                second=scene.second,
            )
        background = shown.scene.background if shown.background_named else None
        if isinstance(shown, Clip):
            return cls(shown.modality, shown.scene.concept, background, shown.scene.motion)
        drawn = shown.scene
        return cls(
            shown.modality,
            drawn.concept,
            background,
            size=drawn.size,
            place=drawn.place,
            count=drawn.count,
            second=drawn.second,
        )


@dataclass(frozen=True)
class Request:
    """A conversation that ends with the user's turn, and what the reply should hold."""

    id: str
    kind: Kind
    turns: tuple[DialogueTurn, ...]
    expected: tuple[ExpectedMedium, ...]
    """In order; empty when no medium is asked for."""
    reference: str
    """A good answer's text."""
    changed: tuple[str, ...] = ()
    """Of a picture that is to be changed: the attributes in which the new one differs."""

    @property
    def is_edit(self) -> bool:
        """Whether a picture is to be changed that keeps its concept."""
        return bool(self.changed) and "concept" not in self.changed

    @property
    def shown(self) -> set[str]:
        """The modalities of the media in the conversation."""
        return {str(medium.modality) for turn in self.turns for medium in turn.media}


def held_out_requests(items: Sequence[Item], num: int = 300, seed: int = 0) -> list[Request]:
    """Gather the test requests: three in ten by hand, the others in a fixed mix of kinds.

    Args:
        items: a world's manifest; attached media come from its splits other than "train". A
            request by hand whose media the world lacks is left out, with a warning, and a sampled
            one takes its place. Kinds that the world has no media for are passed over.
        num: how many requests.
        seed: of the sampled ones and of the choice of media.

    Raises:
        ValueError: no item is a picture of a split other than "train".
    """
    sampler = DialogueSampler(items, "held_out", seed)
    rng = random.Random(f"{seed}/requests")
    text = (resources.files("nextgpt.evaluation") / "requests.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    requests = []
    for record in records[: round(num * HAND_WRITTEN_SHARE)]:
        request = _read(record, sampler, rng)
        if request is None:
            log.warning("left out request %s: the world has no such medium", record["id"])
        else:
            requests.append(request)
    kinds = [kind for kind in SAMPLED_KINDS if kind in sampler.possible_kinds]
    for index in range(num - len(requests)):
        requests.append(sampled_request(sampler, index, kinds[index % len(kinds)]))
    return requests


def sampled_request(sampler: DialogueSampler, index: int, kind: Kind) -> Request:
    """Make dialogue number ``index`` of a kind a request: its last turn is what is expected."""
    *turns, answer = sampler(index, kind)
    expected = tuple(ExpectedMedium.of(shown) for shown in answer.media)
    reference = " ".join(part for part in answer.parts if isinstance(part, str))
    return Request(f"sampled-{kind}-{index:03d}", kind, tuple(turns), expected, reference)


def further_requests(
    sampler: DialogueSampler,
    kinds: Sequence[Kind],
    num: int,
    first: int,
    fits: Callable[[Request], bool] = lambda request: True,
) -> list[Request]:
    """Sample requests of some kinds, those that fit.

    Args:
        sampler: of the held-out bank.
        kinds: of the dialogues, in turn; those that there are no media for are passed over.
        num: how many at most; fewer where ``MOST_TRIED`` dialogues hold no more.
        first: number of the first dialogue.
        fits: what a request must be.
    """
    possible = [kind for kind in kinds if kind in sampler.possible_kinds]
    if not possible:
        return []
    numbers = range(first, first + MOST_TRIED)
    sampled = (sampled_request(sampler, n, possible[n % len(possible)]) for n in numbers)
    return list(itertools.islice(filter(fits, sampled), num))


def outside_requests(sampler: DialogueSampler, modalities: Collection[str]) -> list[Request]:
    """Wish for each thing of ``outside.toml`` as a medium of these modalities; none is right."""
    text = (resources.files("nextgpt.evaluation") / "outside.toml").read_text(encoding="utf-8")
    requests = []
    for modality, things in tomllib.loads(text).items():
        for thing in things.splitlines() if modality in modalities else ():
            rng = random.Random(f"{sampler.seed}/outside/{thing}")
            wish = sampler.bank.wish(Modality(modality), thing, rng)
            reference = reply(OUTSIDE_REPLIES[Modality(modality)], {"outside": thing}, rng)
            turn = DialogueTurn("user", (as_typed(wish, sampler.bank, rng),))
            id_ = f"outside-{thing.replace(' ', '-')}"
            requests.append(Request(id_, "outside", (turn,), (), reference))
    return requests


def references(
    sampler: DialogueSampler, num: int, first: int = 0, edits_alone: bool = False
) -> list[Request]:
    """Ask for a medium, then for a picture that can only be drawn by looking back at it.

    Most are changes of a picture; the others ask how what was heard or seen moving looks.

    Args:
        sampler: of the held-out bank.
        num: how many at most.
        first: number of the first dialogue.
        edits_alone: whether a picture of the same concept must come before.
    """
    found = _references(sampler, range(first, first + MOST_TRIED))
    return list(itertools.islice((r for r in found if r.is_edit or not edits_alone), num))


def _references(sampler: DialogueSampler, numbers: Iterable[int]) -> Iterator[Request]:
    for number in numbers:
        rng = random.Random(f"{sampler.seed}/references/{number}")
        writer = DialogueWriter(sampler.bank, sampler.media, rng)
        turns = writer.wish(writer.some_modality())
        before = writer.latest
        assert before is not None, "a wish shows a medium"
        if isinstance(before, Picture):
            turns += writer.edit(before, attached=False)
        elif Modality.IMAGE in writer.targets(before):
            turns += writer.counterpart(before, Modality.IMAGE, attached=False)
        else:
            continue
        *turns, answer = turns
        [after] = answer.pictures
        changed = _changes(before.scene, after.scene) if isinstance(before, Picture) else ()
        expected = ExpectedMedium.of(after)
        yield Request(
            f"reference-{number:03d}", "multi_turn", tuple(turns), (expected,), "", changed
        )


def _changes(before: Scene, after: Scene) -> tuple[str, ...]:
    names = ("concept", "background", "count", "place", "size")
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def _read(record: dict[str, Any], sampler: DialogueSampler, rng: random.Random) -> Request | None:
    turns = []
    for turn in record["turns"]:
        parts = [p if isinstance(p, str) else _attached(p, sampler, rng) for p in turn["parts"]]
        if None in parts:
            return None
        turns.append(DialogueTurn(turn["role"], tuple(part for part in parts if part is not None)))
    return Request(
        record["id"],
        record["kind"],
        tuple(turns),
        tuple(ExpectedMedium(**medium) for medium in record["expected"]),
        record["reference"],
    )


def _attached(part: dict[str, Any], sampler: DialogueSampler, rng: random.Random) -> Shown | None:
    """Choose a medium that differs from what is described in no word, if the world has one."""
    [(kind, wanted)] = part.items()
    index = sampler.media.indices.get(_ATTACHED[kind])
    if index is None:
        return None
    words = dict(wanted)
    name = words.pop("sound" if kind == "sound" else "concept")
    found = [
        item
        for item in index.items
        if item.concept == name
        and item.attributes.get("view", "whole") == "whole"
        and all(item.attributes[word] == value for word, value in words.items())
    ]
    if not found:
        return None
    item = rng.choice(found)
    shown_type = {"scene": Picture, "sound": Recording, "clip": Clip}[kind]
    return shown_type(index.scene_of(item), item.caption, item)
