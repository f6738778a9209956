"""Messages and replies under way in gradio's form, and what a session keeps."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("gradio", reason="the extra [demo] is not installed")

from nextgpt.archive import open_saved
from nextgpt.events import Event, MediaFinished, MediaProgress, MediaStarted, TextDelta
from nextgpt.media import Audio, Image, Video
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.web.session import Session
from nextgpt.web.view import ReplyView, shown_message

RNG = np.random.default_rng(0)
PICTURE = Image(RNG.integers(0, 255, (64, 64, 3), np.uint8))
SOUND = Audio(RNG.normal(0, 0.1, 16_000).astype(np.float32), sample_rate_hz=16_000)
CLIP = Video(RNG.integers(0, 255, (8, 64, 64, 3), np.uint8), frames_per_second=4)


def kinds(shown: dict) -> list[str]:
    return [piece.get("text") or Path(piece["file"]["path"]).name.split("-")[0]
            for piece in shown["content"]]  # fmt: skip


def test_a_message_is_shown_in_its_order_a_sound_with_its_spectrogram(tmp_path: Path) -> None:
    message = Message("assistant", ["A cat.", PICTURE, "A tone.", SOUND, "It moves.", CLIP])
    shown = shown_message(message, tmp_path, "seed <1>")
    assert kinds(shown) == [
        *("A cat.", "picture", "A tone.", "sound", "spectrogram", "It moves.", "video"),
        "<small>seed &lt;1&gt;</small>",
    ]
    files = [piece["file"] for piece in shown["content"] if piece["type"] == "file"]
    assert [file["mime_type"].split("/")[0] for file in files] == [
        *("image", "audio", "image", "video"),
    ]
    assert all(Path(file["path"]).stat().st_size for file in files)


def test_the_same_medium_is_written_once(tmp_path: Path) -> None:
    message = Message("assistant", [PICTURE])
    shown_message(message, tmp_path)
    [file] = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    shown_message(message, tmp_path)
    assert [file.stat().st_mtime_ns] == [before] and len(list(tmp_path.iterdir())) == 1


def test_a_reply_shows_its_media_where_they_stand_while_they_come(tmp_path: Path) -> None:
    view = ReplyView(tmp_path)
    preview = PIL.Image.new("RGB", (8, 8), "red")
    steps: list[tuple[Event, list[str]]] = [
        (TextDelta("A "), ["A "]),
        (TextDelta("cat."), ["A cat."]),
        (MediaStarted(0, Modality.IMAGE), ["A cat.", "picture 1: waits"]),
        (TextDelta("A tone."), ["A cat.", "picture 1: waits", "A tone."]),
        (MediaStarted(1, Modality.AUDIO), ["A cat.", "picture 1", "A tone.", "sound 2: waits"]),
        (
            MediaProgress(0, 4, 20, preview),
            ["A cat.", "picture 1: step 4", "A tone.", "sound"],
        ),
        (MediaProgress(0, 5, 20), ["A cat.", "data:image/jpeg", "A tone.", "sound 2: waits"]),
        (MediaFinished(0, PICTURE), ["A cat.", "picture", "A tone.", "sound 2: waits"]),
    ]
    for event, expected in steps:
        view.take(event)
        found = kinds(view.shown())
        assert len(found) == len(expected)
        assert all(part in piece for part, piece in zip(expected, found, strict=True)), found
    assert view.message.parts == ["A cat.", PICTURE, "A tone."], "what is finished"


def test_a_session_packs_what_was_said_and_cuts_what_was_taken_back() -> None:
    session = Session()
    assert list(session.archives()) == [None, None]
    session.messages.extend(Conversation().user("Hi").assistant("Look:", PICTURE).messages)
    session.notes[1] = "seed 3"
    assert len(session.shown()) == 2
    assert session.shown()[1]["content"][-1]["text"] == "<small>seed 3</small>"
    reply, whole = session.archives()
    assert reply is not None and whole is not None
    assert open_saved(whole, session.folder / "again").messages[1].images
    assert [message.role for message in session.cut(1)] == ["assistant"]
    assert session.notes == {} and len(session.shown()) == 1


def test_every_browser_has_its_own_messages_and_files() -> None:
    first = Session(Conversation().user("Hi"))
    second = copy.deepcopy(first)
    second.messages.append(Message("assistant", ["Hello."]))
    assert len(first.messages) == 1 and first.folder != second.folder
    folder = second.folder
    del second
    assert not folder.exists()
