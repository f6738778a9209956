"""The command line: training words go to LightningCLI, the others to typed functions."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nextgpt.sources import SourceError

TRAINING_WORDS = ("fit", "validate", "test", "predict")

USAGE = """\
usage: nextgpt COMMAND [options]

  chat        chat with a model in the terminal
  world       build the micro world, or count what is in it (build | stats)
  fit         train a part or a stage:  nextgpt fit -c configs/micro.yaml --stage instruct
  validate    losses on held-out data
  test        measure a model and print the table
  predict     answer a file of requests

`nextgpt COMMAND --help` lists the options of one command.
"""


def chat(
    model: Path | None = None,
    attach: list[Path] | None = None,
    once: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    modalities: str | None = None,
    json: bool = False,
) -> int:
    """Chat with a model in the terminal.

    Args:
        model: Checkpoint directory; the micro model that ships with nextgpt by default.
        attach: File to attach to the first message; repeatable.
        once: Ask this one question and end.
        out: Folder for the media of the replies.
        seed: The same seed gives the same reply; a fresh one is drawn and shown by default.
        modalities: Comma-separated media that every reply must hold, such as image,audio; text forbids
            all media. The model chooses by default.
        json: Print one JSON object a reply on stdout and nothing else.
    """
    from nextgpt.chat import run_chat
    from nextgpt.generation import NextGPT

    return run_chat(
        NextGPT.from_pretrained(model),
        attach=attach or [],
        once=once,
        out=out,
        seed=seed,
        modalities=modalities.split(",") if modalities is not None else None,
        json_output=json,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; wrong input ends in one line on stderr and exit code 1."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("nextgpt").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    try:
        if word in TRAINING_WORDS:
            from nextgpt.training.cli import run

            return run(arguments)
        if word == "chat":
            return _call(chat, rest, "nextgpt chat")
        if word == "world":
            from nextgpt.world import commands

            words = {"build": commands.build, "stats": commands.stats}
            return _call(words, rest, "nextgpt world")
    except (ValueError, SourceError) as error:
        print(f"nextgpt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    wants_help = word in ("", "-h", "--help")
    print(USAGE if wants_help else f"nextgpt: there is no command {word!r}\n\n{USAGE}", end="")
    return 0 if wants_help else 2


def _call(
    functions: Callable[..., Any] | dict[str, Callable[..., Any]], rest: list[str], prog: str
) -> int:
    """Call a typed function, or the one of several that the first word names, with options."""
    from jsonargparse import CLI

    result = CLI(functions, args=rest, prog=prog, as_positional=False)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
