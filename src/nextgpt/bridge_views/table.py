"""The table of systems for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from nextgpt import sources
from nextgpt.bridge_views.systems import System
from nextgpt.input_side import InputSide
from nextgpt.modality import Modality


@dataclass(frozen=True)
class Row:
    """What the table says of one system.

    Attributes:
        name: Of its file.
        about: ``system``, ``paper``, ``weights`` and ``licence``, as far as the file says it.
        parts: The bridge's parts, and what the encoder's weights are known as.
        picture: Tokens of a picture in the sequence, and beside it for a fusion.
        video: The same of a video; none where the system reads no videos.
        trained: Parameters by stage; none where a part cannot be built here.
    """

    name: str
    about: dict[str, str]
    parts: dict[str, str]
    picture: tuple[int, int]
    video: tuple[int, int] | None
    trained: dict[str, int | None]


def row_of(system: System, size: tuple[int, int]) -> Row:
    """Count everything of a system, for a picture of some width and height.

    Raises:
        ValueError: a stage's configuration is not usable, or the system reads no pictures.
    """
    chain = system.chain
    video = num_tokens(chain, Modality.VIDEO) if Modality.VIDEO in chain.reads else None
    trained = {stage: system.num_trained(stage) for stage in system.stages}
    picture = num_tokens(chain, Modality.IMAGE, size)
    return Row(system.name, system.about, _parts(chain), picture, video, trained)


def num_tokens(
    chain: InputSide, modality: Modality, size: tuple[int, int] = (0, 0)
) -> tuple[int, int]:
    """Tokens of a medium in the sequence, and beside it for a fusion.

    Raises:
        ValueError: the chain does not read this modality.
    """
    layout = chain.layout(modality, size)
    num_features, _ = chain.encoder.feature_shape(chain.partition.seen_as(modality))
    num_view_tokens = chain.input_projection.num_tokens(num_features * layout.frames_per_view)
    beside = 0 if chain.fusion is None else layout.num_views * num_view_tokens
    return chain.num_media_tokens(modality, layout), beside


def _parts(chain: InputSide) -> dict[str, str]:
    source = str(getattr(chain.encoder, "source", None) or "")
    parts = {
        "partition": chain.partition,
        "encoder": chain.encoder,
        "connector": chain.input_projection,
        "assembler": chain.assembler,
        "fusion": chain.fusion,
    }
    names = {}
    for name, part in parts.items():
        if part is not None:
            names[name] = type(part).__name__
        if part is chain.encoder and source:
            names["of weights"] = (sources.repository(source) or source).rpartition("/")[2]
    return names


def show(rows: Sequence[Row], size: tuple[int, int], console: Console) -> None:
    """Print what bridges are made of and what trains in their stages."""
    table = Table(
        title=f"Bridges, and the tokens of a {size[0]}x{size[1]} picture and of a video",
        title_justify="left",
        title_style="bold",
        show_lines=True,
    )
    table.add_column("system", overflow="fold")
    table.add_column("bridge")
    table.add_column("trained parameters", no_wrap=True)
    for row in rows:
        about = [row.about.get(key, "") for key in ("system", "paper", "weights", "licence")]
        named = dict.fromkeys(each for each in (row.name, *about) if each)
        tokens = {"picture": _count(row.picture)}
        if row.video is not None:
            tokens["video"] = _count(row.video)
        trained = {
            stage: "not known" if number is None else f"{number:,}"
            for stage, number in row.trained.items()
        }
        table.add_row("\n".join(named), _listed(row.parts | tokens), _listed(trained, "right"))
    console.print(table)


def _count(tokens: tuple[int, int]) -> str:
    inside, beside = tokens
    return f"{inside:,} token" + "s" * (inside != 1) + (f" + {beside:,} beside" if beside else "")


def _listed(items: dict[str, str], justify: Literal["left", "right"] = "left") -> Table:
    """Names and values below each other, inside of a cell."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold", justify=justify)
    for name, value in items.items():
        grid.add_row(name, value)
    return grid
