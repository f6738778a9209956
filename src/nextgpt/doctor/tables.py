"""A report as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from nextgpt.doctor.report import Report, StageFacts


def show(report: Report, console: Console) -> None:
    """Print everything that was found; what is wrong comes last, where it is seen."""
    if report.parts:
        console.print(_parts(report))
        console.print(_seams(report))
    if report.stages:
        console.print(_parameters(report.stages))
        console.print(_memory(report.stages))
    if report.placements:
        console.print(_placements(report))
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    for problem in report.problems:
        console.print(f"problem: {problem}", style="red", markup=False, highlight=False)
    if not report.problems:
        console.print("no problems: the run would start", style="green")


def size(num_bytes: int) -> str:
    """Say a number of bytes in GB, or in MB where that is less than one."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _parts(report: Report) -> Table:
    table = _table("Frozen parts", "part", "source", "licence", "commercial use", "is")
    for name in ("parameters", "in memory", "to fetch"):
        table.add_column(name, justify="right")
    for part in report.parts:
        table.add_row(
            part.name,
            part.source,
            part.licence.name,
            part.licence.commercial,
            part.state,
            f"{part.num_parameters:,}",
            size(part.num_bytes),
            size(part.fetched_bytes) if part.fetched_bytes else "",
        )
    if fetched := sum(part.fetched_bytes for part in report.parts):
        table.add_row("disk needed", *[""] * 6, size(fetched))
    return table


def _seams(report: Report) -> Table:
    table = _table("Seams", "where parts meet", "gives", "takes", "")
    for seam in report.seams:
        verdict = "fits" if seam.fits else "does not fit"
        table.add_row(seam.name, _shape(seam.gives), _shape(seam.takes), verdict)
    return table


def _parameters(stages: list[StageFacts]) -> Table:
    table = _table("Parameters (frozen ones in brackets)", "part")
    names: dict[str, None] = {}  # A set that keeps its order.
    for stage in stages:
        table.add_column(stage.name, justify="right")
        names |= dict.fromkeys([*stage.trained, *stage.frozen])
    for name in names:
        table.add_row(name, *[_count(stage, name) for stage in stages])
    table.add_section()
    table.add_row("trained", *[f"{sum(stage.trained.values()):,}" for stage in stages])
    table.add_row("frozen", *[f"({sum(stage.frozen.values()):,})" for stage in stages])
    return table


def _count(stage: StageFacts, name: str) -> str:
    if name in stage.trained:
        return f"{stage.trained[name]:,}"
    return f"({stage.frozen.get(name, 0):,})"


def _memory(stages: list[StageFacts]) -> Table:
    table = _table("Memory of one device while training", "stage", "batch", "precision")
    for name in ("weights", "optimizer", "gradients", "activations", "in all"):
        table.add_column(name, justify="right")
    for stage in stages:
        memory = stage.memory
        table.add_row(
            stage.name,
            f"{stage.batch_size} x {stage.length} tokens",
            stage.precision,
            *map(size, (memory.weights, memory.optimizer, memory.gradients, memory.activations)),
            size(memory.total),
        )
    return table


def _placements(report: Report) -> Table:
    table = _table("Memory for answering", "choice")
    for name in ("on the device", "beside it"):
        table.add_column(name, justify="right")
    for choice, on_device, beside in report.placements:
        table.add_row(choice, size(on_device), size(beside) if beside else "")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
