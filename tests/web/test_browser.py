"""The page in a real Chromium, answered by the shipped model: what users do, and what they see.

``NEXTGPT_SCREENSHOTS=DIR`` keeps a picture of each state, to be looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import pytest
from bad_media import UNUSABLE
from page_user import PATIENCE_S, User, assert_accessible, drop, opened, reach, sync_api

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"
)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
FEW, MANY = 3, 50
"""Diffusion steps where what is drawn does not matter, and where there shall be time to act."""
THREE_MEDIA = (
    "Show me a rooster, let me hear a trumpet, and make a short clip of a rocket flying up."
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page as the command line serves it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    log = tmp_path_factory.mktemp("page") / "log.txt"
    command = [sys.executable, "-m", "nextgpt.cli", "chat", "--web", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        until = time.monotonic() + PATIENCE_S
        while not answers(f"http://127.0.0.1:{port}"):
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE_S) == 0, "Ctrl-C ends the server in order"
    finally:
        server.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = os.environ.get("NEXTGPT_SCREENSHOTS")
    return Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")


@pytest.fixture
def user(browser: Browser, url: str, screenshots: Path) -> Iterator[User]:
    sync_api.expect.set_options(timeout=PATIENCE_S * 1000)
    with opened(browser, url, screenshots) as user:
        yield user


def test_text_streams_and_each_medium_appears_in_its_place(user: User) -> None:
    user.see("start")
    user.set(steps=8)
    user.page.get_by_role("button", name=THREE_MEDIA).click()
    sync_api.expect(user.answers.first).to_contain_text("rooster")
    sync_api.expect(user.stop).to_be_visible()
    sync_api.expect(user.rendering.first).to_contain_text("picture 1: ")
    user.see("text, and a picture that waits")
    sync_api.expect(user.rendering.locator("progress").last).to_be_visible()
    sync_api.expect(user.rendering.get_by_alt_text("preview of ").first).to_be_visible()
    user.see("preview")
    assert_accessible(user)
    user.replied()
    user.see("reply")
    assert user.media(user.page.get_by_role("log")) == ["img", "audio", "img", "video"]
    assert "spectrogram" in user.page.locator("audio ~ img, img").last.get_attribute("src")
    user.page.get_by_role("button", name="Play", exact=True).click()
    assert user.plays(user.page.locator("audio"))
    assert user.page.locator("audio").evaluate("e => e.duration") == pytest.approx(2.56, abs=0.1)
    user.page.get_by_role("button", name="play-pause-replay-button").click()
    assert user.plays(user.page.locator("video"))
    assert user.page.locator("video").evaluate("e => [e.videoWidth, e.duration]") == [64, 2]
    assert_accessible(user)


def test_an_attached_picture_a_dropped_one_and_a_recording_are_asked_about(
    user: User, tmp_path: Path
) -> None:
    path = drawing(tmp_path / "apple.png")
    user.attach(path)
    drop(user.page, path)
    sync_api.expect(user.page.locator(".thumbnail-item")).to_have_count(2)
    user.page.get_by_role("button", name="Record audio").click()
    user.page.get_by_role("button", name="Start recording").click()
    user.page.wait_for_timeout(500)
    user.page.get_by_role("button", name="Stop recording").click()
    user.page.get_by_role("button", name="Attach audio").click()
    sync_api.expect(user.page.locator(".thumbnail-item")).to_have_count(3)
    user.see("attachments")
    user.say("What is this?")
    user.replied()
    assert user.media(user.questions.locator("..").first) == ["img"]
    assert user.page.get_by_role("log").locator("audio").count() == 1
    assert user.answers.first.inner_text()
    user.see("asked about attachments")


def test_a_reply_is_stopped_and_tried_again_from_another_seed(user: User) -> None:
    user.set(MANY, Pictures="always", Sounds="never", Videos="never")
    user.say("Draw a cat.")
    sync_api.expect(user.rendering).to_contain_text("step ")
    user.stop.click()
    stopped = user.replied()
    assert stopped.endswith("stopped")
    assert user.media(user.page.get_by_role("log")) == [] and user.rendering.count() == 0
    user.see("stopped")
    user.set(FEW)
    user.page.get_by_role("button", name="Retry").click()
    sync_api.expect(user.notes).not_to_have_text(stopped)
    again = user.replied()
    assert seed(again) != seed(stopped) and "stopped" not in again
    assert user.media(user.page.get_by_role("log")) == ["img"]


def test_a_message_is_edited_and_sent_again(user: User) -> None:
    for number, text in enumerate(("Hello.", "What is the capital of Italy?"), start=1):
        user.say(text)
        user.replied(number)
    user.page.get_by_role("button", name="Edit").first.click()
    user.page.get_by_role("log").get_by_role("textbox").fill("What is the capital of France?")
    user.see("editing")
    user.page.get_by_role("log").get_by_role("button", name="Submit").click()
    sync_api.expect(user.questions).to_have_text(["What is the capital of France?"])
    user.replied()


def test_a_saved_conversation_is_opened_in_another_browser_and_goes_on(
    user: User, browser: Browser, url: str, screenshots: Path, tmp_path: Path
) -> None:
    user.set(FEW)
    user.say("Draw a dog on a blue background.")
    user.replied()
    for button in ("Save reply", "Save chat"):
        with user.page.expect_download() as download:
            user.page.get_by_role("button", name=button).click()
        download.value.save_as(tmp_path / f"{button}.zip")
    assert zipfile.ZipFile(tmp_path / "Save reply.zip").namelist() == [
        "image-1.png",
        "message.json",
    ]
    text = user.answers.first.inner_text()
    user.page.get_by_role("button", name="Clear").click()
    sync_api.expect(user.questions).to_have_count(0)
    with opened(browser, url, screenshots) as other:
        other.set(FEW)
        other.page.locator("input[accept='.zip']").set_input_files(tmp_path / "Save chat.zip")
        sync_api.expect(other.answers.first).to_have_text(text)
        assert other.media(other.page.get_by_role("log")) == ["img"]
        other.see("opened")
        other.say("Now on a red background.")
        other.replied()
        sync_api.expect(other.questions).to_have_count(2)


def test_at_the_width_of_a_telephone_nothing_scrolls_sideways(
    browser: Browser, url: str, screenshots: Path
) -> None:
    with opened(browser, url, screenshots, width=390) as user:
        user.see("telephone, start")
        user.assert_no_scrolling_sideways()
        user.set(FEW, Pictures="always", Sounds="always", Videos="always")
        user.say("w" * 100)
        user.replied()
        user.see("telephone, reply")
        user.assert_no_scrolling_sideways()


def test_the_keyboard_is_enough(user: User) -> None:
    keyboard = user.page.keyboard
    keyboard.type("Draw a cat.")
    reach(user, "Toggle Sidebar")
    keyboard.press("Enter")
    reach(user, "number input for Pictures: steps")
    keyboard.press("Control+a")
    keyboard.type(str(MANY))
    reach(user, "Toggle Sidebar", backwards=True)
    keyboard.press("Enter")
    reach(user, "Message", backwards=True)
    keyboard.press("Enter")
    sync_api.expect(user.rendering).to_contain_text(f"of {MANY}")
    reach(user, "Stop")
    user.see("keyboard")
    keyboard.press("Enter")
    user.replied()
    reach(user, "Retry", backwards=True)


def test_two_browsers_wait_in_line_each_with_a_conversation_of_its_own(
    user: User, browser: Browser, url: str, screenshots: Path
) -> None:
    with opened(browser, url, screenshots) as other:
        user.set(MANY, Pictures="always")
        other.set(FEW, Pictures="never", Sounds="never", Videos="never")
        user.say("Draw a cat.")
        sync_api.expect(user.rendering).to_contain_text("step ")
        other.say("Hello!")
        sync_api.expect(other.page.get_by_text("queue:").first).to_be_visible()
        other.see("in line")
        assert other.notes.count() == 0
        other.replied()
        assert user.notes.count() == 1, "first come, first served"
        sync_api.expect(user.questions).to_have_text(["Draw a cat."])
        sync_api.expect(other.questions).to_have_text(["Hello!"])


@pytest.mark.parametrize("name", ["text.jpg", "empty.mp4", "cut.wav", "huge.bmp"])
def test_a_bad_file_is_named_and_without_it_the_message_is_answered(
    name: str, user: User, tmp_path: Path
) -> None:
    content = UNUSABLE[name](tmp_path)
    assert content is not None
    (tmp_path / name).write_bytes(content)
    user.attach(tmp_path / name)
    user.say("Hello!")
    sync_api.expect(user.page.get_by_test_id("toast-body")).to_contain_text(f"{name}: ")
    user.see(f"refused, {name}")
    sync_api.expect(user.box).to_have_value("Hello!")
    user.page.get_by_role("button", name="Remove file").click()
    user.box.press("Enter")
    user.replied()
    assert user.answers.first.inner_text()


def test_bad_words_are_refused_and_the_next_are_answered(user: User) -> None:
    for text, said in (("word " * 3000, "shorten the message"), ("draw <image_0>", "<image_0>")):
        user.say(text)
        sync_api.expect(user.page.get_by_test_id("toast-body").last).to_contain_text(said)
        sync_api.expect(user.box).to_have_value(text.strip())
    user.say("Hello!")
    user.replied()


def test_pictures_of_other_servers_are_not_fetched(user: User) -> None:
    user.say("![a](http://example.com/a.png) <img src='http://example.com/b.png'>")
    user.replied()
    assert user.page.get_by_role("log").locator("img").count() >= 2


def drawing(path: Path) -> Path:
    """Draw something red on blue."""
    picture = PIL.Image.new("RGB", (300, 200), (60, 110, 220))
    PIL.ImageDraw.Draw(picture).ellipse([90, 40, 210, 160], (220, 40, 45))
    picture.save(path)
    return path


def seed(note: str) -> int:
    found = re.match(r"seed (\d+), ", note)
    assert found is not None
    return int(found[1])
