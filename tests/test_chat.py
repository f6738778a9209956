"""The terminal chat through the real chain at tiny size: what it prints, writes and survives."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console
from tiny_chain import tiny_chain

from nextgpt import chat as chat_module
from nextgpt.chat import SAMPLE_QUESTIONS, STILL_ROWS, Chat, run_chat
from nextgpt.events import Event
from nextgpt.generation import NextGPT
from nextgpt.media import Image, load_medium

if TYPE_CHECKING:
    from conftest import TinyParts

MEDIA = ["image", "audio", "video"]


@pytest.fixture(scope="module")
def model(tiny: TinyParts) -> NextGPT:
    """The whole chain, random and tiny, reading and writing all media."""
    return NextGPT(tiny_chain(tiny))


@pytest.fixture
def chat(model: NextGPT, tmp_path: Path) -> Chat:
    """A conversation on a screen that is a terminal, kept in memory."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    return Chat(model, console, tmp_path / "out", seed=1, modalities=[])


def pipe_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def picture(folder: Path) -> Path:
    return Image(np.full((40, 60, 3), 90, np.uint8)).save(folder / "grey.png")


def screen(chat: Chat) -> str:
    assert isinstance(chat.console.file, io.StringIO)
    return chat.console.file.getvalue()


def ask_once(model: NextGPT, out: Path, **options: Any) -> int:
    options = {"once": "Hello!", "seed": 5, "modalities": []} | options
    return run_chat(model, out=out, **options)


# One question


def test_one_question_prints_the_reply_and_the_paths_of_its_media(
    model: NextGPT, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask_once(model, tmp_path / "out", modalities=MEDIA, attach=[picture(tmp_path)]) == 0
    printed = capsys.readouterr().out
    paths = sorted((tmp_path / "out").iterdir())
    assert [load_medium(path).modality for path in paths] == ["audio", "image", "video"]
    for path in paths:
        assert str(path) in printed
    assert "nextgpt> " in printed
    assert "seed 5" in printed


def test_json_is_one_object_with_the_parts_in_reply_order(
    model: NextGPT, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask_once(model, tmp_path / "out", modalities=MEDIA, json_output=True) == 0
    stdout = capsys.readouterr().out
    assert stdout.count("\n") == 1
    reply = json.loads(stdout)
    assert set(reply) == {"parts", "timings"}
    assert {"first_token_s", "text_s", "total_s"} <= set(reply["timings"])
    expected = model.chat("Hello!", seed=5, modalities=MEDIA)
    kinds = ["text" if isinstance(part, str) else part.modality for part in expected.parts]
    assert [part["type"] for part in reply["parts"]] == kinds
    assert "".join(part.get("text", "") for part in reply["parts"]) == "".join(
        part for part in expected.parts if isinstance(part, str)
    )
    media = [part for part in reply["parts"] if part["type"] != "text"]
    assert sorted(Path(part["path"]).suffix for part in media) == [".mp4", ".png", ".wav"]
    assert [part["seed"] for part in media] == [5, 6, 7]
    for part in media:
        assert load_medium(part["path"]).modality == part["type"]


def test_a_seed_repeats_the_files_and_a_folder_keeps_earlier_ones(
    model: NextGPT, tmp_path: Path
) -> None:
    for _ in range(2):
        assert ask_once(model, tmp_path / "out", modalities=["image"]) == 0
    first, second = sorted((tmp_path / "out").iterdir())
    assert (first.name, second.name) == ("001-image-1.png", "002-image-1.png")
    assert first.read_bytes() == second.read_bytes()


def test_without_a_seed_replies_differ(model: NextGPT, tmp_path: Path) -> None:
    for _ in range(2):
        assert ask_once(model, tmp_path / "out", modalities=["image"], seed=None) == 0
    first, second = sorted((tmp_path / "out").iterdir())
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"attach": [Path("gone.png")]}, "gone.png: no such file"),
        ({"attach": [Path(__file__)]}, "test_chat.py: no picture, sound or video"),
        ({"once": "draw <image_0>"}, "<image_0>"),
        ({"once": "word " * 3000}, "shorten the message"),
        ({"modalities": ["smell"]}, "smell"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    model: NextGPT,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    error: str,
) -> None:
    for json_output in (False, True):
        assert ask_once(model, tmp_path / "out", json_output=json_output, **options) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert error in printed.err
    assert not (tmp_path / "out").exists()


# Standard input


def test_each_piped_line_is_a_turn_of_one_conversation(
    model: NextGPT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = f"Hello!\n\n/attach {picture(tmp_path)}\nWhat is this?\n/save {tmp_path / 'saved'}\n"
    pipe_in(monkeypatch, lines)
    assert (
        run_chat(model, out=tmp_path / "out", seed=1, modalities=["image"], json_output=True) == 0
    )
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 2
    saved = json.loads((tmp_path / "saved" / "conversation.json").read_text())["messages"]
    assert [message["role"] for message in saved] == ["user", "assistant"] * 2
    assert [part["type"] for part in saved[2]["content"]] == ["image", "text"]


def test_an_error_in_one_piped_line_does_not_end_the_others(
    model: NextGPT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe_in(monkeypatch, "draw <image_0>\nHello!\n/nonsense\n")
    assert run_chat(model, out=tmp_path / "out", seed=1, modalities=[], json_output=True) == 1
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert ["<image_0>" in line or "/nonsense" in line for line in printed.err.splitlines()] == [
        True,
        True,
    ]


def test_a_piped_quit_ends_the_chat(
    model: NextGPT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe_in(monkeypatch, "Hello!\n/quit\nnever asked\n")
    assert run_chat(model, out=tmp_path / "out", seed=1, modalities=[], json_output=True) == 0
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("stdin", ["empty", "closed", "silent pipe"])
def test_sample_questions_are_asked_where_there_is_no_other(
    model: NextGPT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stdin: str,
) -> None:
    monkeypatch.setattr(chat_module, "PIPE_WAIT_S", 0.05)
    reader, writer = os.pipe()
    with os.fdopen(reader) as pipe, os.fdopen(writer, "w"):
        source = {"empty": io.StringIO("\n"), "closed": None, "silent pipe": pipe}[stdin]
        monkeypatch.setattr(sys, "stdin", source)
        assert run_chat(model, out=tmp_path / "out", seed=1, modalities=["image"]) == 0
    printed = capsys.readouterr().out
    for question in SAMPLE_QUESTIONS:
        assert f"you> {question}" in printed
    assert len(list((tmp_path / "out").glob("*.png"))) == len(SAMPLE_QUESTIONS)


def test_a_terminal_is_talked_to_until_quit(
    model: NextGPT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    master, slave = pty.openpty()
    os.write(master, b"Hello!\n/attach gone.png\n\n/quit\nnever read\n")
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        code = run_chat(model, attach=[Path("lost.png")], out=tmp_path / "out", modalities=[])
    os.close(master)
    assert code == 0
    printed = capsys.readouterr()
    assert printed.out.count("nextgpt> ") == 1
    assert [line.split(":")[1].strip() for line in printed.err.splitlines()] == [
        "lost.png",
        "gone.png",
    ]


# A conversation


def test_a_bar_stands_under_the_text_while_media_render(chat: Chat) -> None:
    chat.modalities = ["image", "video"]
    assert chat.answer("Draw.")
    shown = screen(chat)
    assert "[image 1]" in shown
    assert "[video 2]" in shown
    assert "2/2" in shown
    assert shown.index("nextgpt> ") < shown.index("[image 1]") < shown.index("2/2")


def test_media_are_drawn_in_a_terminal_and_nowhere_else(
    chat: Chat, model: NextGPT, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat.modalities = ["image", "audio", "video"]
    assert chat.answer("Draw.")
    assert ask_once(model, tmp_path / "piped", modalities=MEDIA) == 0
    for printed, least, most in ((screen(chat), STILL_ROWS, 100), (capsys.readouterr().out, 0, 1)):
        lines = printed.splitlines()
        ends = [n for n, line in enumerate(lines) for m in MEDIA if f"001-{m}-1" in line]
        assert len(ends) == len(MEDIA)
        assert all(least < after - before <= most for before, after in itertools.pairwise(ends))


def test_a_terminal_that_media_cannot_be_drawn_in_names_their_files(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textual_image import renderable

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no columns")

    monkeypatch.setattr(renderable, "Image", fail)
    chat.modalities = ["image"]
    assert chat.answer("Draw.")
    assert "001-image-1.png" in screen(chat)


def test_attached_files_go_with_the_next_message_alone(chat: Chat, tmp_path: Path) -> None:
    assert chat.answer(f"/attach '{picture(tmp_path)}'")
    assert chat.answer("What is this?")
    assert chat.answer("And now?")
    first, _, second, _ = chat.conversation.messages
    assert [type(part) for part in first.parts] == [Image, str]
    assert second.parts == ["And now?"]


def test_a_failed_turn_leaves_the_conversation_and_its_attachments(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat.answer("Hello!")
    assert chat.answer(f"/attach {picture(tmp_path)}")
    before = list(chat.conversation.messages)
    assert not chat.answer("draw <image_0>")
    assert "<image_0>" in capsys.readouterr().err
    assert chat.conversation.messages == before
    assert len(chat.attached) == 1
    assert chat.answer("What is this?")
    assert len(chat.conversation.messages) == 4


def test_a_reply_that_cannot_be_saved_leaves_the_conversation(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat.out.write_text("a file where the folder should be")
    chat.modalities = ["image"]
    assert not chat.answer("Draw.")
    assert str(chat.out) in capsys.readouterr().err
    assert chat.conversation.messages == []


def test_undo_clear_and_seed(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat.answer("Hello!")
    assert chat.answer("Again!")
    assert chat.answer("/undo")
    assert [message.role for message in chat.conversation.messages] == ["user", "assistant"]
    assert chat.answer("/clear")
    assert chat.conversation.messages == []
    assert not chat.answer("/undo")
    assert chat.answer("/seed 12")
    assert chat.seed == 12
    assert chat.answer("/seed")
    assert chat.seed is None
    for wrong in ("/seed twelve", "/attach", "/frobnicate"):
        assert not chat.answer(wrong)
        assert wrong in capsys.readouterr().err
    assert chat.answer("/help")
    assert "/attach FILE" in screen(chat)


class Interrupted(NextGPT):
    """The real model, and a user who presses Ctrl-C during the first reply."""

    presses = 1

    def stream(self, *arguments: Any, **options: Any) -> Iterator[Event]:
        """Yield the events of the reply; the first reply is interrupted before its first event."""
        for event in super().stream(*arguments, **options):
            if self.presses:
                self.presses -= 1
                signal.raise_signal(signal.SIGINT)
            yield event


def test_ctrl_c_stops_the_reply_and_not_the_chat(
    chat: Chat, model: NextGPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.model = Interrupted(model.model)
    lines = iter(["First.", "Second."])

    def typed(*_: object) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(chat.console, "input", typed)
    chat.talk()
    assert "stopped" in screen(chat)
    assert [message.text for message in chat.conversation.messages[::2]] == ["Second."]
