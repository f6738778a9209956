"""The command line: training words go to LightningCLI, the others to typed functions."""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nextgpt.sources import SourceError

if TYPE_CHECKING:
    from nextgpt.generation import NextGPT

TRAINING_WORDS = ("fit", "validate", "predict")

USAGE = """\
usage: nextgpt COMMAND [options]

  chat        chat with a model in the terminal, or in the browser: --web
  world       build the micro world, add to it, count what is in it (build | add | stats)
  data        look through a manifest before training (check)
  convert     other projects' data to a manifest, and back (data); checkpoints of the original
              NExT-GPT (checkpoint)
  merge       write the language model of a checkpoint as one of transformers alone
  fit         train a part or a stage:  nextgpt fit -c configs/micro.yaml --stage instruct
  validate    losses on held-out data
  test        measure a model and print the table
  predict     answer a file of requests
  bridges     systems and what their bridges are made of; show draws what one makes of a picture
  doctor      what a configuration needs (memory, disk, licences), and whether it would run

`nextgpt COMMAND --help` lists the options of one command.
"""


def chat(arguments: Sequence[str]) -> int:
    """Chat with a model in the terminal."""
    parser = argparse.ArgumentParser("nextgpt chat", description="Chat with a model.")
    add = parser.add_argument
    add("--model", type=Path, metavar="DIR", help="checkpoint directory, or hf:owner/name@revision "
        "(default: micro model)")  # fmt: skip
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
    add("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1, mps (default: cpu)")
    add("--dtype", help="precision of the frozen parts: float32, bfloat16, float16")
    add("--offload", metavar="LIST", default="", help="comma-separated parts that leave the device "
        "when others compute: encoder,language_model,decoders")  # fmt: skip
    add("--keep-decoders", type=int, metavar="N", help="decoders that stay loaded (default: all)")
    add("--web", action="store_true", help="chat in the browser")
    add("--host", default="127.0.0.1", help="with --web: address to listen at (default: this "
        "machine alone; 0.0.0.0 lets others in)")  # fmt: skip
    add("--port", type=int, help="with --web: port (default: the first free one from 7860 on)")
    options = parser.parse_args(arguments)

    if options.web:
        return web_chat(options)

    from nextgpt.chat import run_chat

    return run_chat(
        loaded(options),
        attach=options.attach,
        once=options.once,
        out=options.out,
        seed=options.seed,
        modalities=options.modalities.split(",") if options.modalities else None,
        json_output=options.json,
        resume=options.resume,
    )


def loaded(options: argparse.Namespace) -> "NextGPT":
    """Load the model that the options name, onto the device that they name."""
    from nextgpt.generation import NextGPT

    return NextGPT.from_pretrained(
        options.model,
        device=options.device,
        dtype=options.dtype,
        offload=[name for name in options.offload.split(",") if name],
        keep_decoders=options.keep_decoders,
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
    from nextgpt.web import serve

    directory = checkpoint.find(options.model or checkpoint.shipped_model())
    with TemporaryDirectory(prefix="nextgpt-") as folder:
        resume = open_saved(options.resume, Path(folder)) if options.resume else None
        engine = Engine(lambda: loaded(options))
        serve(engine, checkpoint.card(directory), resume, options.host, options.port)
    return 0


def convert(arguments: Sequence[str]) -> int:
    """Convert what other projects have."""
    parser = argparse.ArgumentParser(
        "nextgpt convert", description="Convert what other projects have."
    )
    add = parser.add_subparsers(dest="what", required=True).add_parser
    add("data", help="data sets, to a manifest of conversations and back", add_help=False)
    add("checkpoint", help="weights of the original NExT-GPT", add_help=False)
    options, _ = parser.parse_known_args(arguments[:1])
    if options.what == "data":
        from nextgpt.data.commands import convert_data as convert
    else:
        from nextgpt.conversion.commands import convert
    return convert(arguments[1:])


def merge(arguments: Sequence[str]) -> int:
    """Write the language model of a checkpoint for transformers."""
    parser = argparse.ArgumentParser(
        "nextgpt merge",
        description="Write the language model of a checkpoint, its adapter and signal tokens "
        "merged in, as a directory that transformers loads alone.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="directory, or hf:name@revision")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="new directory")
    options = parser.parse_args(arguments)

    from nextgpt import checkpoint

    checkpoint.merge(options.checkpoint, options.out)
    print(f"written to {options.out}")
    return 0


def train(arguments: Sequence[str]) -> int:
    """Train, validate or predict: the words of LightningCLI."""
    from nextgpt.training.cli import run

    return run(arguments)


def doctor(arguments: Sequence[str]) -> int:
    """Say what a configuration needs."""
    from nextgpt.training.doctor import run

    return run(arguments)


def bridges(arguments: Sequence[str]) -> int:
    """List the bridges of systems, or show what one makes of a picture."""
    from nextgpt.bridge_views.commands import bridges

    return bridges(arguments)


def test(arguments: Sequence[str]) -> int:
    """Measure a model."""
    from nextgpt.evaluation.commands import test

    return test(arguments)


def data(arguments: Sequence[str]) -> int:
    """Look through a manifest."""
    from nextgpt.data.commands import data

    return data(arguments)


def world(arguments: Sequence[str]) -> int:
    """Build the micro world, add to it or count."""
    from jsonargparse import CLI

    from nextgpt.world import commands

    words = {"build": commands.build, "add": commands.add, "stats": commands.stats}
    CLI(words, args=arguments, prog="nextgpt world", as_positional=False)
    return 0


COMMANDS = {
    function.__name__: function
    for function in (chat, world, data, convert, merge, test, doctor, bridges)
}


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
            return train(arguments)
        if word in COMMANDS:
            return COMMANDS[word](rest)
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
