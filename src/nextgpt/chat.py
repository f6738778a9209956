"""The terminal chat: streamed text, media saved as files, one JSON object a reply on request."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import random
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console, Group
from rich.live import Live, VerticalOverflowMethod
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from nextgpt.archive import open_saved, pack
from nextgpt.events import Done, Event, MediaFinished, MediaProgress, MediaStarted, TextDelta
from nextgpt.generation import NextGPT
from nextgpt.media import Medium, load_medium
from nextgpt.media.stills import still
from nextgpt.messages import Conversation, Message, Part
from nextgpt.modality import Modality

logger = logging.getLogger(__name__)

SAMPLE_QUESTIONS = (
    "Hello! Who are you?",
    "Draw a dog on a blue background.",
    "What is in this picture?",
)
"""Asked where there is neither a terminal nor a question; the last is about the picture drawn."""

PIPE_WAIT_S = 5.0
"""A pipe that stays open and silent this long counts as empty."""

QUIT = "/quit", "/exit"
"""Lines that end the chat, on a pipe as in a terminal."""

STILL_PX, STILL_ROWS = 160, 8
"""Height of what is shown of a medium, in pixels and in lines."""

HELP = """\
/attach FILE    send a picture, sound or video along with the next message
/save [PATH]    write the conversation and its media into a folder, or an archive: talk.zip
/seed [N]       repeat replies exactly, from seed N; without N every reply has a new seed
/undo           take back the last message and its reply
/clear          start a new conversation
/help           show this list
/quit           leave
Ctrl-C stops a reply."""


def run_chat(
    model: NextGPT,
    *,
    attach: Sequence[Path] = (),
    once: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    modalities: Sequence[str] | None = None,
    json_output: bool = False,
    resume: Path | None = None,
) -> int:
    """Chat in the terminal, answer one question, or answer each line of standard input.

    Args:
        model: Who answers.
        attach: Files sent along with the first message.
        once: The one question to answer; without it questions are read from standard input.
        out: Folder for the media of the replies; ``nextgpt-out/<time>`` by default.
        seed: Of every reply; a new one for each by default.
        modalities: The media that every reply must hold; see ``NextGPT.stream``.
        json_output: Write one JSON object a reply to standard output, and nothing else there.
        resume: A saved conversation to go on with; see ``nextgpt.archive.open_saved``.

    Returns:
        The exit code: 0, or 1 where a question outside of a terminal could not be answered.
    """
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # no character is worth the conversation
    chat = Chat(
        model,
        Console(
            stderr=json_output,
            quiet=json_output and not sys.stderr.isatty(),
            highlight=False,
        ),
        out or Path("nextgpt-out") / time.strftime("%Y%m%d-%H%M%S"),
        seed,
        modalities,
        sys.stdout if json_output else None,
    )
    if resume is not None:
        chat.conversation = open_saved(resume, chat.out / "resumed")
    interactive = once is None and sys.stdin is not None and sys.stdin.isatty()
    attached = all([chat.attempt(partial(chat.attach, path)) for path in attach])
    if interactive:
        chat.talk()
        return 0
    if not attached:
        return 1
    try:
        questions = [once] if once is not None else _piped_questions(chat.console)
        return 0 if all([chat.answer(question) for question in questions]) else 1
    except KeyboardInterrupt:
        return 130


@dataclass
class Chat:
    """One conversation in a terminal or on a pipe."""

    model: NextGPT
    console: Console
    out: Path
    seed: int | None = None
    modalities: Sequence[str] | None = None
    json_stream: TextIO | None = None
    """Where replies go as JSON; None shows them on the console instead."""
    conversation: Conversation = field(default_factory=Conversation)
    attached: list[Part] = field(default_factory=list)

    def talk(self) -> None:
        """Read and answer until the user leaves."""
        with contextlib.suppress(ImportError):  # not on every platform; gives line editing
            import readline  # noqa: F401
        self.console.print("[dim]Type a message, or /help. Replies may hold media.[/]")
        while True:
            try:
                line = self.console.input("[bold cyan]you>[/] ").strip()
            except EOFError:
                self.console.print()
                return
            except KeyboardInterrupt:
                self.console.print("\n[dim]/quit leaves the chat[/]")
                continue
            if line in QUIT:
                return
            try:
                if line:
                    self.answer(line)
            except KeyboardInterrupt:
                self.console.print("\n[dim]stopped; the conversation is as before[/]")

    def answer(self, line: str) -> bool:
        """Carry out a command or answer a message; whether that went well."""
        return self.attempt(lambda: self._command(line) if line.startswith("/") else self.ask(line))

    def attempt(self, action: Callable[[], None]) -> bool:
        """Do it; an error becomes one line on the screen, and the chat goes on."""
        try:
            action()
        except Exception as error:
            logger.debug("in the chat", exc_info=True)
            expected = isinstance(error, ValueError | OSError)
            name = "error" if expected else f"error ({type(error).__name__})"
            sys.stdout.flush()
            line = Text(f"{name}: {' '.join(str(error).split())}", "red")
            Console(stderr=True).print(line, soft_wrap=True)
            return False
        return True

    def attach(self, path: Path) -> None:
        """Check a file and keep it for the next message.

        Raises:
            ValueError: it cannot be used.
        """
        medium = load_medium(path.expanduser())
        self.attached.append(medium)
        self.console.print(f"[dim]attached {medium.modality}: {escape(str(path))}[/]")

    def ask(self, text: str) -> None:
        """Answer one message; only a whole and saved reply enters the conversation.

        Raises:
            ValueError: the message or an attached medium cannot be used.
        """
        question = Message("user", [*self.attached, text])
        seed = random.randrange(2**31) if self.seed is None else self.seed
        events = self.model.stream(
            Conversation([*self.conversation.messages, question]),
            seed=seed,
            modalities=self.modalities,
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(events))
            screen = stack.enter_context(_Screen(self.console))
            if self.json_stream is not None:  # a library that prints must not break the JSON
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            for event in events:
                screen.show(event)
        done = event
        assert isinstance(done, Done), "a stream ends with Done"
        parts = self._save(done.message)
        self.conversation.messages += [question, done.message]
        self.attached = []
        if self.json_stream is not None:
            print(json.dumps({"parts": parts, "timings": done.timings}), file=self.json_stream)
            self.json_stream.flush()
            return
        shown = [part for part in parts if part["type"] != Modality.TEXT]
        for part, medium in zip(shown, done.message.media, strict=True):
            if self.console.is_terminal:
                self._draw(medium)
            path = Text(part["path"], "bold")
            self.console.print(part["type"], path, f"(seed {part['seed']})", soft_wrap=True)
        self.console.print(f"[dim]{done.timings['total_s']:.1f} s[/]")

    def _draw(self, medium: Medium) -> None:
        """Show a medium as a picture, as finely as the terminal can."""
        picture = still(medium, STILL_PX)
        try:
            # NOTE: its import asks the terminal what it can do, and fails where that says nothing
            # sensible, of no columns for instance.
            from textual_image.renderable import Image

            self.console.print(Image(picture, width="auto", height=STILL_ROWS))
        except Exception:
            logger.debug("media cannot be drawn in this terminal", exc_info=True)

    def _save(self, message: Message) -> list[dict[str, Any]]:
        """Write the media of a reply under a number of their own; returns its parts as data."""
        turn = 1
        while any(self.out.glob(f"{turn:03d}-*")):
            turn += 1
        content: list[dict[str, Any]] = message.to_json(self.out, f"{turn:03d}-")["content"]
        parts = []
        for part in content:
            if part["type"] != Modality.TEXT:
                part = part | {"path": str(self.out / part["path"])}
            parts.append(part)
        return parts

    def _command(self, line: str) -> None:
        """Carry out a line that starts with a slash.

        Raises:
            ValueError: the command is unknown or lacks what it needs.
        """
        name, _, argument = line.partition(" ")
        argument = argument.strip().strip("'\"")
        match name:
            case "/attach" if argument:
                self.attach(Path(argument))
            case "/save":
                path = Path(argument or self.out / "conversation").expanduser()
                if path.suffix == ".zip":
                    pack(self.conversation, path)
                else:
                    path = self.conversation.save(path)
                self.console.print("saved", Text(str(path), "bold"), soft_wrap=True)
            case "/seed" if not argument or argument.isdecimal():
                self.seed = int(argument) if argument else None
                self.console.print(f"[dim]seed {'new every time' if not argument else argument}[/]")
            case "/undo":
                if not self.conversation.messages:
                    raise ValueError("there is nothing to take back")
                del self.conversation.messages[-2:]
                self.console.print("[dim]took back the last message and its reply[/]")
            case "/clear":
                self.conversation, self.attached = Conversation(), []
                self.console.print("[dim]a new conversation[/]")
            case "/help":
                self.console.print(HELP, markup=False)
            case _:
                raise ValueError(f"{line!r} is no command; /help lists them")


def _piped_questions(console: Console) -> Iterator[str]:
    """The lines of standard input that hold something, until one ends the chat.

    Where there is none, sample questions.

    Each is shown before it is answered, as a terminal would.
    """
    lines = iter(sys.stdin if sys.stdin is not None and _readable(sys.stdin) else ())
    questions = (line.strip() for line in lines if line.strip())
    first = next(questions, None)
    asked = SAMPLE_QUESTIONS if first is None else itertools.chain([first], questions)
    for question in itertools.takewhile(lambda question: question not in QUIT, asked):
        console.print(Text(f"you> {question}", "bold cyan"), soft_wrap=True)
        yield question


def _readable(stream: TextIO) -> bool:
    """Whether input or its end arrives in time; an idle pipe would hold up `make chat` forever."""
    try:
        return bool(select.select([stream], [], [], PIPE_WAIT_S)[0])
    except (OSError, ValueError):  # not a descriptor that can be waited for
        return True


class _Screen:
    """Shows a reply while it comes: its text, and below it a bar for each medium that renders."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.text = Text()
        self.live: Live | None = None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.progress = Progress(*columns, console=console)
        self.tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            overflow: VerticalOverflowMethod = "visible"
            self.live = Live(console=self.console, auto_refresh=False, vertical_overflow=overflow)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.update(self.text, refresh=True)
            self.live.stop()
        elif self.text:
            self.console.print()

    def show(self, event: Event) -> None:
        """Show what an event says."""
        match event:
            case TextDelta(text):
                self._write(Text(text))
            case MediaStarted(index, modality):
                name = f"{modality} {index + 1}"
                self.tasks[index] = self.progress.add_task(name, total=None, visible=False)
                self._write(Text(f" [{name}] ", "magenta"))
            case MediaProgress(index, step, total):
                task = self.tasks[index]
                self.progress.update(task, completed=step, total=total, visible=True)
                self._refresh()
            case MediaFinished(index):
                self.progress.update(self.tasks[index], visible=False)
                self._refresh()

    def _write(self, text: Text) -> None:
        if not self.text:
            text = Text.assemble(("nextgpt> ", "bold green"), text)
        self.text.append_text(text)
        if self.live is None:
            self.console.print(text, end="", soft_wrap=True)
        self._refresh()

    def _refresh(self) -> None:
        if self.live is not None:
            self.live.update(Group(self.text, self.progress), refresh=True)
