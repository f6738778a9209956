"""What a conversion did, key by key."""

import re
from dataclasses import dataclass, field

from rich.table import Table
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One key of the file."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    target: str
    """Where it went."""


@dataclass
class Report:
    """Where every key of a file went."""

    file: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    drift: dict[str, dict[str, float]] = field(default_factory=dict)
    """By table, how far its other rows moved from the base, see ``nextgpt.conversion.files``."""

    @property
    def keys(self) -> set[str]:
        """The keys that are accounted for."""
        return {row.key for row in self.rows}

    def add(self, key: str, tensor: Tensor, target: str) -> None:
        """Say where a key went."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        self.rows.append(Row(key, tuple(tensor.shape), dtype, target))

    def note(self, text: str) -> None:
        """Say what concerns more than one key."""
        self.notes.append(text)

    def table(self) -> Table:
        """Lay it out for a terminal, the layers of a stack in one line."""
        table = Table(title=self.file)
        table.add_column("key", overflow="fold")
        table.add_column("", justify="right")
        table.add_column("shape")
        table.add_column("type")
        table.add_column("went to", overflow="fold")
        counts: dict[Row, int] = {}
        for row in self.rows:
            key, target = (re.sub(r"layers\.\d+\.", "layers.*.", t) for t in (row.key, row.target))
            same = Row(key, row.shape, row.dtype, target)
            counts[same] = counts.get(same, 0) + 1
        for row, count in counts.items():
            shape = " x ".join(map(str, row.shape))
            table.add_row(row.key, str(count), shape, row.dtype, row.target)
        return table

    def markdown(self) -> str:
        """Write it all down, a line a key."""
        lines = [f"# Conversion of {self.file}", "", *(f"- {note}" for note in self.notes), ""]
        lines += ["| key | shape | type | went to |", "|---|---|---|---|"]
        for row in self.rows:
            shape = " x ".join(map(str, row.shape))
            lines.append(f"| `{row.key}` | {shape} | {row.dtype} | {row.target} |")
        return "\n".join([*lines, ""])
