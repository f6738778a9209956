"""The table of systems for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        parts: Partition, encoder, connector, assembler and fusion.
        picture: Tokens of a picture in the sequence, and beside it for a fusion.
        video: The same of a video; none where the system reads no videos.
        trained: Parameters by stage.
    """

    name: str
    about: dict[str, str]
    parts: tuple[str, ...]
    picture: tuple[int, int]
    video: tuple[int, int] | None
    trained: dict[str, int]


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


def _parts(chain: InputSide) -> tuple[str, ...]:
    source = str(getattr(chain.encoder, "source", None) or "")
    known_as = (sources.repository(source) or source).rpartition("/")[2]
    encoder = " ".join([type(chain.encoder).__name__, *([f"({known_as})"] if known_as else [])])
    others = (chain.input_projection, chain.assembler)
    fusion = "" if chain.fusion is None else type(chain.fusion).__name__
    names = [type(each).__name__ for each in others]
    return type(chain.partition).__name__, encoder, *names, fusion


def show(rows: Sequence[Row], size: tuple[int, int], console: Console) -> None:
    """Print what bridges are made of, then what trains in their stages."""
    picture = f"{size[0]}x{size[1]} picture"
    parts = _table("Bridges, and the tokens that media become", "name")
    for name in ("partition", "encoder", "connector", "assembler", "fusion"):
        parts.add_column(name, overflow="fold")
    for name in (picture, "video"):
        parts.add_column(name, justify="right")
    trained = _table("Parameters that stages train", "name", "system", "stage")
    trained.add_column("trained", justify="right", no_wrap=True)
    for name in ("paper", "weights", "licence"):
        trained.add_column(name, overflow="fold")
    for row in rows:
        video = "" if row.video is None else _count(row.video)
        parts.add_row(row.name, *row.parts, _count(row.picture), video)
        about = row.about
        trained.add_row(
            row.name,
            about["system"],
            "\n".join(row.trained),
            "\n".join(f"{number:,}" for number in row.trained.values()),
            *(about.get(key, "") for key in ("paper", "weights", "licence")),
        )
    console.print(parts, trained)


def _count(tokens: tuple[int, int]) -> str:
    inside, beside = tokens
    return f"{inside:,}" + (f" + {beside:,} beside" if beside else "")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
