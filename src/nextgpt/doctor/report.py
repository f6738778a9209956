"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from nextgpt.architectures import Licence
from nextgpt.doctor.memory import Memory


@dataclass(frozen=True)
class Part:
    """A frozen part, and where its weights are."""

    name: str
    source: str
    licence: Licence
    state: str
    """"here", "to fetch" or "missing"."""
    num_parameters: int
    num_bytes: int
    """In memory, in the precision that the configuration names."""
    fetched_bytes: int
    """What fetching it takes of the disk; 0 where it is here."""


@dataclass(frozen=True)
class Seam:
    """Two parts that meet: what one gives and what the other takes."""

    name: str
    gives: tuple[int, ...]
    takes: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """Whether both are the same."""
        return self.gives == self.takes


@dataclass(frozen=True)
class StageFacts:
    """One stage of training."""

    name: str
    trained: dict[str, int]
    """Parameters by part."""
    frozen: dict[str, int]
    batch_size: int
    length: int
    """Tokens of a conversation."""
    precision: str
    memory: Memory


@dataclass
class Report:
    """Everything found; a run starts only where there are no problems."""

    parts: list[Part] = field(default_factory=list)
    seams: list[Seam] = field(default_factory=list)
    stages: list[StageFacts] = field(default_factory=list)
    placements: list[tuple[str, int, int]] = field(default_factory=list)
    """Inference: the choice, bytes on the device, bytes beside it."""
    problems: list[str] = field(default_factory=list)
    """Why a run would not start; each says what to do."""
    notes: list[str] = field(default_factory=list)
    """What is good to know and stops nothing."""

    def trouble(self, problem: str) -> None:
        """Add a problem once."""
        if problem not in self.problems:
            self.problems.append(problem)
