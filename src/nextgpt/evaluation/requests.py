"""The test requests: sixty written by hand, the rest from phrasings kept from training."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from nextgpt.data.manifest import Item
from nextgpt.world.dialogues import DialogueSampler, DialogueTurn, Kind, Picture, scene_of
from nextgpt.world.scenes import Scene, describe

log = logging.getLogger(__name__)

HAND_WRITTEN_SHARE = 0.3
SAMPLED_KINDS: tuple[Kind, ...] = (
    *("draw", "chat", "look", "multi_turn", "draw", "chat", "look", "transform", "draw", "pair"),
    *("draw", "chat", "look", "multi_turn", "draw", "chat", "look", "transform", "multi_turn"),
    "outside",
)
"""Kinds of the sampled requests, in turn. Wishes outside the world are few: what a reply to one
should hold is a matter of taste."""


@dataclass(frozen=True)
class ExpectedMedium:
    """A medium the reply should hold."""

    modality: str
    concept: str
    background: str | None
    """None where the user left the background open."""


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


def held_out_requests(items: Sequence[Item], num: int = 200, seed: int = 0) -> list[Request]:
    """Gather the test requests: three in ten by hand, the others in a fixed mix of kinds.

    Args:
        items: a world's manifest; attached pictures come from its splits other than "train". A
            request by hand whose picture the world lacks is left out, with a warning, and a sampled
            one takes its place.
        num: how many requests.
        seed: of the sampled ones and of the choice of pictures.

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
            log.warning("left out request %s: no picture of the world shows it", record["id"])
        else:
            requests.append(request)
    for index in range(num - len(requests)):
        requests.append(_sample(sampler, index, SAMPLED_KINDS[index % len(SAMPLED_KINDS)]))
    return requests


def _read(record: dict[str, Any], sampler: DialogueSampler, rng: random.Random) -> Request | None:
    turns = []
    for turn in record["turns"]:
        parts = [p if isinstance(p, str) else _show(p, sampler, rng) for p in turn["parts"]]
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


def _show(part: dict[str, Any], sampler: DialogueSampler, rng: random.Random) -> Picture | None:
    """Find the picture of a scene that differs from it in no word, if the world has one."""
    scene = Scene(**part["scene"])
    if scene.concept not in sampler.pictures.concepts:
        return None
    item = sampler.pictures.nearest(scene, rng)
    return Picture(scene, describe(scene), item) if scene_of(item) == scene else None


def _sample(sampler: DialogueSampler, index: int, kind: Kind) -> Request:
    *turns, answer = sampler(index, kind)
    expected = tuple(
        ExpectedMedium(
            "image",
            picture.scene.concept,
            picture.scene.background if picture.background_named else None,
        )
        for picture in answer.pictures
    )
    reference = " ".join(part for part in answer.parts if isinstance(part, str))
    return Request(f"sampled-{kind}-{index:03d}", kind, tuple(turns), expected, reference)
