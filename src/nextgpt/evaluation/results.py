"""What a measurement finds: cases with their verdicts, and the rows of the table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from nextgpt.evaluation.requests import ExpectedMedium
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message

NOTHING = "nothing"
"""What is seen where nothing came."""


@dataclass(frozen=True)
class Neighbour:
    """The training medium that is most like a generated one."""

    medium: Medium
    similarity: float
    """1 is a copy; see ``Nearest``."""


def nearness(neighbours: Iterable[Neighbour | None]) -> str:
    """Word how like their nearest training media generated ones are, on average."""
    known = [neighbour.similarity for neighbour in neighbours if neighbour is not None]
    if not known:
        return "similarity to the nearest training item not known"
    return f"similarity {sum(known) / len(known):.2f} to the nearest training item"


@dataclass(frozen=True)
class Case:
    """A medium that was asked for, and what came."""

    expected: ExpectedMedium
    medium: Medium | None
    asked: Conversation
    reply: Message
    """The whole of it: it may hold other media as well."""


@dataclass(frozen=True)
class Sample:
    """A case with its verdict, in words, as people look at it."""

    wanted: str
    seen: str
    """Or heard, or read: what the verdict rests on."""
    is_right: bool
    asked: Conversation = field(default_factory=Conversation)
    """It ends with the user's turn; empty where a judge was asked and no model."""
    reply: Message = field(default_factory=lambda: Message("assistant"))
    """Text, and the medium that the verdict is about."""
    share: float | None = None
    """How sure the judge is of what was wanted, 0 to 1; None where it was not asked."""
    nearest: Neighbour | None = None


class Shares(dict[str, float]):
    """How sure a judge is of each name, 0 to 1; they sum to 1."""

    @property
    def likeliest(self) -> str:
        """The name that it is surest of."""
        return max(self, key=self.__getitem__)


def judged(wanted: str, shares: Shares, medium: Medium) -> Sample:
    """Make what a judge says of a medium, without any model, a case."""
    shown = Message("assistant", [medium])
    return judged_case(
        Case(ExpectedMedium(medium.modality, wanted), medium, Conversation(), shown), shares
    )


def judged_case(case: Case, shares: Shares | None, nearest: Neighbour | None = None) -> Sample:
    """Hold what a judge says of the medium that came, None where none did, against the wish."""
    wanted = case.expected.concept
    seen = NOTHING if shares is None else shares.likeliest
    share = 0.0 if shares is None else shares.get(wanted, 0.0)
    return Sample(wanted, seen, seen == wanted, case.asked, case.reply, share, nearest)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured against what it must reach."""

    metric: str
    value: float
    relation: Literal[">=", ">", "<"]
    target: float
    count: int
    """Cases measured."""
    hits: int | None = None
    """Cases that were right, for a proportion."""
    note: str = ""
    samples: Sequence[Sample] = field(default=(), repr=False, compare=False)
    """The cases, for those who want to look."""

    @classmethod
    def proportion(
        cls,
        metric: str,
        samples: Sequence[Sample],
        target: float,
        relation: Literal[">=", ">"] = ">=",
        note: str = "",
    ) -> Self:
        """Sum up right and wrong cases; no case at all counts as 0 of 0 and fails."""
        hits = sum(sample.is_right for sample in samples)
        value = hits / len(samples) if samples else 0.0
        return cls(metric, value, relation, target, len(samples), hits, note, tuple(samples))

    @property
    def passed(self) -> bool:
        """Whether the target is reached."""
        if self.count == 0:
            return False
        if self.relation == "<":
            return self.value < self.target
        return self.value > self.target or (self.relation == ">=" and self.value == self.target)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% confidence interval of a proportion."""
        return None if self.hits is None else wilson_interval(self.hits, self.count)

    @property
    def value_in_words(self) -> str:
        """A share with its counts, or a number."""
        if self.hits is None:
            return f"{self.value:.2f}"
        low, high = self.interval or (0.0, 1.0)
        return f"{self.value:.1%} ({self.hits} of {self.count}; {low:.0%} to {high:.0%})"

    @property
    def target_in_words(self) -> str:
        """What the value must reach."""
        target = f"{self.target:g}" if self.hits is None else f"{self.target:.0%}"
        words = {">=": "at least", ">": "more than", "<": "less than"}
        return f"{words[self.relation]} {target}"

    def to_json(self) -> dict[str, Any]:
        """The row as plain data, without its cases."""
        names = ("metric", "value", "relation", "target", "count", "hits", "note")
        record = {name: getattr(self, name) for name in names}
        return record | {"interval": self.interval, "passed": self.passed}


def wilson_interval(hits: int, count: int, deviations: float = 1.959964) -> tuple[float, float]:
    """Bound a proportion; unlike the normal interval it stays within 0 and 1.

    Args:
        hits: Cases that were right.
        count: Cases in all; none leaves everything open.
        deviations: Standard deviations either way, 1.96 for 95%.

    Source: E. B. Wilson, 1927, J. Am. Stat. Assoc. 22, 209.
    """
    if count == 0:
        return 0.0, 1.0
    share, square = hits / count, deviations**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    spread = math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    half = deviations * spread / (1 + square / count)
    return max(0.0, centre - half), min(1.0, centre + half)
