"""What the page does, without a browser: bad input, taking back, settings."""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bad_media import UNUSABLE, UNUSUAL
from tiny_chain import tiny_chain

pytest.importorskip("gradio", reason="the extra [demo] is not installed")

from nextgpt.engine import Engine
from nextgpt.generation import NextGPT
from nextgpt.web.page import ALWAYS, FREE, NEVER, ChatPage
from nextgpt.web.session import Session

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture(scope="module")
def page(tiny: TinyParts) -> ChatPage:
    return ChatPage(Engine(lambda: NextGPT(tiny_chain(tiny))))


@pytest.fixture
def session() -> Iterator[Session]:
    yield Session()


def settings(seed: str = "3", choice: str = NEVER, steps: int = 2) -> tuple[Any, ...]:
    return (0.0, 1.0, seed, *([choice, steps, 1.5] * 3))


def sent(page: ChatPage, session: Session, text: str, *files: Path, **options: Any) -> list[Any]:
    """Send a message and let the reply come to its end: what the page shows, step by step."""
    typed = {"text": text, "files": [str(file) for file in files]}
    return list(page.send(typed, session, *settings(**options)))


def refused(page: ChatPage, session: Session, text: str, *files: Path, **options: Any) -> str:
    """Send what cannot be answered; returns what is said, and sees that nothing is lost."""
    before = list(session.messages)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        *_, (shown, box, *_rest) = sent(page, session, text, *files, **options)
    assert session.messages == before and len(shown) == len(before)
    assert box.value["text"] == text
    assert [str(Path(file["path"] if isinstance(file, dict) else file).name)
            for file in box.value["files"]] == [file.name for file in files]  # fmt: skip
    [warning] = [str(w.message) for w in said if w.category is UserWarning]
    return html.unescape(warning)


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used_is_named_and_the_next_message_is_answered(
    name: str, page: ChatPage, session: Session, tmp_path: Path
) -> None:
    data = UNUSABLE[name](tmp_path)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    said = refused(page, session, "What is this?", tmp_path / name)
    assert said.startswith(f"{name}: ") and ";" in said
    assert str(tmp_path) not in said
    sent(page, session, "Hello")
    assert [message.role for message in session.messages] == ["user", "assistant"]


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_file_is_taken_for_what_it_holds(
    name: str, page: ChatPage, session: Session, tmp_path: Path
) -> None:
    modality, write = UNUSUAL[name]
    sent(page, session, "What is this?", write(tmp_path / name))
    [medium] = session.messages[0].media
    assert medium.modality == modality
    assert len(session.messages) == 2


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("word " * 2000, {}, "shorten the message"),
        ("draw <image_0> now", {}, "<image_0>"),
        ("Hello", {"seed": "seven"}, "'seven' is no whole number"),
    ],
)
def test_a_message_that_cannot_be_used_says_why_and_stays_in_the_box(
    text: str, options: dict[str, Any], named: str, page: ChatPage, session: Session
) -> None:
    assert named in refused(page, session, text.strip(), **options)


def test_nothing_is_sent_where_nothing_was_typed(page: ChatPage, session: Session) -> None:
    sent(page, session, "   ")
    assert session.messages == []


def test_settings_reach_the_reply(page: ChatPage, session: Session) -> None:
    *_, _ = shown = sent(page, session, "Hello", choice=ALWAYS, steps=3)
    assert [medium.modality for medium in session.messages[1].media] == ["image", "audio", "video"]
    texts = [piece.get("text", "") for chat, *_ in shown for piece in chat[-1]["content"]]
    assert any("step 3 of 3" in text for text in texts)
    assert session.notes[1].startswith("seed 3, ")
    assert {medium.seed for medium in session.messages[1].media} == {3, 4, 5}


def test_an_empty_seed_is_a_new_one_each_time(page: ChatPage) -> None:
    seeds = {page._options(settings(seed=""))["seed"] for _ in range(5)}
    assert len(seeds) == 5
    assert page._options(settings(choice=FREE))["modalities"] == {}


def test_a_reply_is_stopped_and_what_is_finished_of_it_stays(
    page: ChatPage, session: Session
) -> None:
    typed = {"text": "Hello", "files": []}
    for chat, *_ in page.send(typed, session, *settings(choice=ALWAYS, steps=40)):
        if any("step 2 of" in piece.get("text", "") for piece in chat[-1]["content"]):
            page.stop(session)
    assert session.notes[1].endswith("stopped")
    assert session.messages[1].parts and not session.messages[1].media


def test_what_is_cleared_in_the_middle_of_a_reply_stays_cleared(
    page: ChatPage, session: Session
) -> None:
    typed = {"text": "Hello", "files": []}
    for chat, *_ in page.send(typed, session, *settings(choice=ALWAYS, steps=40)):
        if any("step 2 of" in piece.get("text", "") for piece in chat and chat[-1]["content"]):
            page.clear(session)
    assert session.messages == [] and chat == []


def test_undo_takes_a_question_back_into_the_box_and_retry_answers_it_anew(
    page: ChatPage, session: Session
) -> None:
    sent(page, session, "Hello")
    first = session.messages[1]
    list(page.retry(session, *settings(seed="4")))
    assert len(session.messages) == 2 and session.messages[1] is not first
    assert session.notes[1].startswith("seed 4, ")
    chat, box, *_ = page.undo(session)
    assert (chat, box.value["text"], session.messages) == ([], "Hello", [])
    page.undo(session)
    list(page.retry(session, *settings()))
    assert session.messages == []


def test_a_saved_chat_is_opened_and_another_file_is_refused(
    page: ChatPage, session: Session, tmp_path: Path
) -> None:
    sent(page, session, "Hello", choice=ALWAYS)
    _, saved = session.archives()
    other = Session()
    page.open_chat(str(saved), other)
    assert [message.role for message in other.messages] == ["user", "assistant"]
    assert len(other.messages[1].media) == 3
    (tmp_path / "no.zip").write_text("no archive")
    with pytest.warns(UserWarning, match="no.zip"):
        page.open_chat(str(tmp_path / "no.zip"), other)
    assert len(other.messages) == 2, "what was open stays open"
