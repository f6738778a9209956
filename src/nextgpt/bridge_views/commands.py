"""The command ``nextgpt bridges``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nextgpt.bridge_views import table
from nextgpt.bridge_views.picture import drawn
from nextgpt.bridge_views.systems import System, root_cause, shipped_systems
from nextgpt.media import Image

SIZE = (640, 480)


def bridges(arguments: Sequence[str]) -> int:
    """List the bridges of systems, or show what one makes of a picture.

    Returns:
        0, or 1 where a configuration is broken.

    Raises:
        ValueError: an option is not usable.
    """
    if arguments and arguments[0] == "show":
        return _show(arguments[1:])
    parser = argparse.ArgumentParser(
        "nextgpt bridges",
        description="List systems: what their bridges are made of, the tokens that media become, "
        "what trains. Nothing is fetched or loaded but sizes. `nextgpt bridges show --help`: "
        "what one of them makes of a picture.",
    )
    add = parser.add_argument
    add("--size", default="x".join(map(str, SIZE)), metavar="WIDTHxHEIGHT",
        help="of the picture whose tokens are counted (default: %(default)s)")  # fmt: skip
    add("-c", "--config", type=Path, action="append", metavar="FILE",
        help="configuration of a chain; repeatable (default: all that are shipped)")  # fmt: skip
    options = parser.parse_args(arguments)
    size = _size(options.size)
    rows, broken = [], 0
    for file in options.config or shipped_systems().values():
        try:
            rows.append(table.row_of(System(file), size))
        except (ValueError, OSError) as error:
            broken += 1
            print(f"nextgpt: {_about_file(error, file)}", file=sys.stderr)
    if rows:
        table.show(rows, size, Console())
    return 1 if broken else 0


def _about_file(error: Exception, file: Path) -> str:
    """One line that names the file, without the whole of what is wrong somewhere."""
    text = " ".join(str(root_cause(error)).split()).partition(" Given value")[0]
    return text if text.startswith(str(file)) else f"{file}: {text}"


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"0*([1-9]\d{0,5})x0*([1-9]\d{0,5})", text)
    if match is None:
        raise ValueError(f"--size {text}: give width and height in pixels, such as 640x480")
    return int(match[1]), int(match[2])


def _show(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "nextgpt bridges show",
        description="Draw how a system's bridge cuts a picture, and its tokens in their order.",
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="as `nextgpt bridges` lists it")
    add("--image", type=Path, required=True, metavar="FILE", help="the picture")
    add("--out", type=Path, metavar="FILE.png", help="what is written (default: NAME.png)")
    add("--micro", action="store_true", help="the same bridge on the micro model")
    options = parser.parse_args(arguments)
    systems = shipped_systems(options.micro)
    if options.name not in systems:
        raise ValueError(f"there is no system {options.name!r}; choose {', '.join(systems)}")
    out = options.out or Path(f"{options.name}.png")
    if out.suffix != ".png":
        raise ValueError(f"--out {out}: name a .png file")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
    picture = Image(options.image).check()
    system = System(systems[options.name])
    title = system.about["system"] + (" on the micro model" if options.micro else "")
    drawn(system.chain, picture, title).save(out)
    inside, beside = table.num_tokens(system.chain, picture.modality, picture.size)
    more = f", {beside:,} beside it" if beside else ""
    print(f"{out}: {inside:,} token{'s' * (inside != 1)} in the sequence{more}")
    return 0
