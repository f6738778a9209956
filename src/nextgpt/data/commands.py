"""The commands ``nextgpt convert data`` and ``nextgpt data``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console

from nextgpt.data.check import Check
from nextgpt.data.chunks import optimize
from nextgpt.data.convert import format_of, from_manifest, to_manifest
from nextgpt.data.formats import FORMATS, Folders

MANIFEST = "manifest"


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False, markup=False)


def convert_data(arguments: Sequence[str]) -> int:
    """Convert other projects' data to a manifest, or a manifest to their formats."""
    formats = "\n".join(f"  {name:<18} {form.describes}" for name, form in FORMATS.items())
    parser = argparse.ArgumentParser(
        "nextgpt convert data",
        description="Convert data to a manifest of conversations, or a manifest to other formats.",
        epilog=f"formats:\n  {MANIFEST:<18} conversations, see docs/data.md\n{formats}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, help="file or folder to read")
    add("target", type=Path, help="file or folder to write; it appears whole or not at all")
    add("--from", dest="source_format", metavar="FORMAT", default=MANIFEST,
        help="of the source (default: manifest)")  # fmt: skip
    add("--to", dest="target_format", metavar="FORMAT", default=MANIFEST,
        help="of the target (default: manifest)")  # fmt: skip
    add("--media", metavar="FOLDER", help="folder of the media, below that of the manifest; "
        "a new one where the source carries the media (default for those: media)")  # fmt: skip
    add("--conditioning", metavar="FOLDER", default="",
        help="folder of the .npy files, below that of the manifest")  # fmt: skip
    add("--source", dest="source_name", metavar="NAME", help="what rows say of their source "
        "(default: the name of the source)")  # fmt: skip
    add("--licence", default="", help="what rows say of their licence")
    add("--split", default="train", help="what rows say of their split (default: train)")
    add("--file-name", metavar="PATTERN", help="how media of pairs are named, with keys or "
        "columns in braces: {page_dir}/{videoid}.mp4")  # fmt: skip
    add("--caption", metavar="KEY", help="key or column of the caption of pairs")
    add("--skip-faulty", action="store_true", help="leave out what cannot be converted, and say "
        "what it was (default: stop)")  # fmt: skip
    add("--lossy", action="store_true", help="leave out what the target's format cannot hold")
    options = parser.parse_args(arguments)
    importing = options.target_format == MANIFEST
    if importing == (options.source_format == MANIFEST):
        raise ValueError("one of --from and --to is another format than manifest; name it")
    name = options.source_format if importing else options.target_format
    form = format_of(name, options.file_name, options.caption)
    media = options.media or ("media" if form.container.carries_media and importing else "")
    folders = Folders(*(_tidy_folder(folder) for folder in (media, options.conditioning)))
    if importing:
        source_name = options.source_name or options.source.stem
        facts = {"source": source_name, "licence": options.licence, "split": options.split}
        number = to_manifest(
            options.source, options.target, form, folders, facts, options.skip_faulty
        )
    else:
        number = from_manifest(
            options.source, options.target, form, folders, options.skip_faulty, options.lossy
        )
    _console().print(f"{options.target}: {number} conversations")
    return 0


def _tidy_folder(folder: str) -> str:
    path = Path(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{folder!r} is no folder below the manifest's; write the manifest there")
    return "" if path == Path() else path.as_posix()


def data(arguments: Sequence[str]) -> int:
    """Look through a manifest, or get it ready for training."""
    parser = argparse.ArgumentParser("nextgpt data", description="Manifests of conversations.")
    commands = parser.add_subparsers(dest="command", required=True)
    looks = commands.add_parser("check", help="find what is wrong in a manifest; exit code 1 if "
        "there is something")  # fmt: skip
    looks.add_argument("manifest", type=Path, help="JSON lines, see docs/data.md")
    looks.add_argument("--no-media", action="store_true", help="do not open the media")
    looks.add_argument("--limit", type=int, default=50, metavar="N",
        help="print so many faults and count the others (default: 50)")  # fmt: skip
    packs = commands.add_parser("optimize", help="pack a manifest and its media into few large "
        "files")  # fmt: skip
    packs.add_argument("manifest", type=Path, help="JSON lines, see docs/data.md")
    packs.add_argument("folder", type=Path, help="a new one; it appears whole or not at all")
    packs.add_argument("--chunk-mb", type=int, default=64, metavar="N",
        help="size of the files (default: 64)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.command == "optimize":
        number = optimize(options.manifest, options.folder, options.chunk_mb)
        _console().print(f"{options.folder}: {number} conversations")
        return 0
    return _check(options.manifest, not options.no_media, options.limit)


def _check(manifest: Path, media: bool, limit: int) -> int:
    look, console = Check(manifest, media), _console()
    faults = look.faults()
    for fault in islice(faults, limit):
        console.print(fault)
    for _ in faults:
        pass
    num_faults = look.counts.pop("faults", 0)
    if num_faults > limit:
        console.print(f"... and {num_faults - limit} more")
    for name, count in look.counts.items():
        console.print(f"{count:>12,} {name}")
    console.print(f"{num_faults:>12,} faults")
    return 1 if num_faults else 0
