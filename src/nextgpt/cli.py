"""The command line: training words go to LightningCLI, the others to typed functions."""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from nextgpt.sources import SourceError

TRAINING_WORDS = ("fit", "validate", "predict")

USAGE = """\
usage: nextgpt COMMAND [options]

  chat        chat with a model in the terminal, or in the browser: --web
  world       build the micro world, add to it, count what is in it (build | add | stats)
  data        look through a manifest before training (check)
  convert     other projects' data to a manifest, and back (data)
  fit         train a part or a stage:  nextgpt fit -c configs/micro.yaml --stage instruct
  validate    losses on held-out data
  test        measure a model and print the table
  predict     answer a file of requests

`nextgpt COMMAND --help` lists the options of one command.
"""


def chat(arguments: Sequence[str]) -> int:
    """Chat with a model in the terminal."""
    parser = argparse.ArgumentParser("nextgpt chat", description="Chat with a model.")
    add = parser.add_argument
    add("--model", type=Path, metavar="DIR", help="checkpoint directory (default: micro model)")
    add("--attach", type=Path, metavar="FILE", action="append", default=[],
        help="attach a file to the first message; repeatable")  # fmt: skip
    add("--once", metavar="TEXT", help="ask this one question and end")
    add("--out", type=Path, metavar="DIR", help="folder for the media of the replies")
    add("--seed", type=int, help="the same seed gives the same reply (default: a fresh one)")
    add("--modalities", metavar="LIST", help="comma-separated media that every reply must hold, "
        "such as image,audio; text forbids all media (default: the model chooses)")  # fmt: skip
    add("--json", action="store_true", help="one JSON object a reply on stdout, nothing else")
    add("--resume", type=Path, metavar="FILE", help="go on with a saved conversation: a zip "
        "archive, a folder or its conversation.json")  # fmt: skip
    add("--web", action="store_true", help="chat in the browser")
    add("--host", default="127.0.0.1", help="with --web: address to listen at (default: this "
        "machine alone; 0.0.0.0 lets others in)")  # fmt: skip
    add("--port", type=int, help="with --web: port (default: the first free one from 7860 on)")
    options = parser.parse_args(arguments)

    from nextgpt.generation import NextGPT

    if options.web:
        return web_chat(options)

    from nextgpt.chat import run_chat

    return run_chat(
        NextGPT.from_pretrained(options.model),
        attach=options.attach,
        once=options.once,
        out=options.out,
        seed=options.seed,
        modalities=options.modalities.split(",") if options.modalities else None,
        json_output=options.json,
        resume=options.resume,
    )


def web_chat(options: argparse.Namespace) -> int:
    """Chat in the browser."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ValueError("the web chat needs gradio: pip install 'nextgpt[demo]'") from error

    from tempfile import TemporaryDirectory

    from nextgpt import checkpoint
    from nextgpt.archive import open_saved
    from nextgpt.engine import Engine
    from nextgpt.generation import NextGPT
    from nextgpt.web import serve

    directory = options.model or checkpoint.shipped_model()
    with TemporaryDirectory(prefix="nextgpt-") as folder:
        resume = open_saved(options.resume, Path(folder)) if options.resume else None
        engine = Engine(lambda: NextGPT.from_pretrained(directory))
        serve(engine, checkpoint.card(directory), resume, options.host, options.port)
    return 0


def convert(arguments: Sequence[str]) -> int:
    """Convert what other projects have."""
    parser = argparse.ArgumentParser(
        "nextgpt convert", description="Convert what other projects have."
    )
    add = parser.add_subparsers(dest="what", required=True).add_parser
    add("data", help="data sets, to a manifest of conversations and back", add_help=False)
    options, rest = parser.parse_known_args(arguments[:1])
    assert options.what == "data" and not rest
    from nextgpt.data.commands import convert_data

    return convert_data(arguments[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; wrong input ends in one line on stderr and exit code 1."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("nextgpt").setLevel(logging.INFO)
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category)
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    try:
        if word in TRAINING_WORDS:
            from nextgpt.training.cli import run

            return run(arguments)
        if word == "test":
            from nextgpt.evaluation.commands import test

            return test(rest)
        if word == "chat":
            return chat(rest)
        if word == "data":
            from nextgpt.data.commands import data

            return data(rest)
        if word == "convert":
            return convert(rest)
        if word == "world":
            from jsonargparse import CLI

            from nextgpt.world import commands

            words = {"build": commands.build, "add": commands.add, "stats": commands.stats}
            CLI(words, args=rest, prog="nextgpt world", as_positional=False)
            return 0
    except (ValueError, SourceError) as error:
        print(f"nextgpt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    wants_help = word in ("", "-h", "--help")
    print(USAGE if wants_help else f"nextgpt: there is no command {word!r}\n\n{USAGE}", end="")
    return 0 if wants_help else 2


if __name__ == "__main__":
    sys.exit(main())
