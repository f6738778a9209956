"""Somebody in front of the page, and what may not happen on it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("gradio", reason="the extra [demo] is not installed")
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright, of the extra [test], is not installed"
)
axe_playwright = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="axe-playwright-python, of the extra [test], is not installed",
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PATIENCE_S = 300
"""For whatever is waited for; it matters only where something is broken, or a machine busy."""
_GRADIOS_OWN = {
    "aria-required-children": ".examples",  # a list of buttons
    "button-name": ".image-container button",  # the hidden button that shares a picture
}
"""Rules of axe, and what of gradio's own markup breaks them."""


class User:
    """Somebody in front of the page, who sees one conversation."""

    def __init__(self, page: Page, screenshots: Path) -> None:
        self.page, self.screenshots = page, screenshots
        self.box = page.get_by_role("textbox", name="Message")
        self.stop = page.get_by_role("button", name="Stop", exact=True)
        self.questions, self.answers = page.get_by_test_id("user"), page.get_by_test_id("bot")
        self.rendering = page.locator(".rendering")
        self.notes = page.get_by_test_id("bot").locator("small")
        """The small print behind each finished reply."""

    def attach(self, *files: Path) -> None:
        """Choose files as the button of the box does."""
        self.page.get_by_test_id("file-upload").set_input_files(files)
        sync_api.expect(self.page.locator(".thumbnail-item")).to_have_count(len(files))

    def say(self, text: str) -> None:
        """Send a message."""
        self.box.fill(text)
        self.box.press("Enter")

    def replied(self, number: int = 1) -> str:
        """Wait for the end of a reply; returns its small print."""
        sync_api.expect(self.notes).to_have_count(number)
        sync_api.expect(self.stop).to_be_hidden()
        return self.notes.last.inner_text()

    def set(self, steps: int, **choices: str) -> None:
        """Open the drawer, set the steps of all media and what replies must hold, close it."""
        toggle = self.page.get_by_role("button", name="Toggle Sidebar")
        toggle.click()
        for name in ("Pictures", "Sounds", "Videos"):
            self.page.get_by_label(f"number input for {name}: steps").fill(str(steps))
        for name, choice in choices.items():
            group = self.page.get_by_role("group").filter(has_text=f"{name} in a reply")
            group.get_by_label(choice).check()
        self.see("settings")
        toggle.click()

    def see(self, state: str) -> None:
        """Keep what the page looks like."""
        self.page.screenshot(path=self.screenshots / f"{state}.png")

    def media(self, message: Locator) -> list[str]:
        """What stands in a message, in order: the tags of its media."""
        return message.locator("img, audio, video").evaluate_all("es => es.map(e => e.localName)")

    def plays(self, medium: Locator) -> bool:
        """Whether a sound or video has been played to its end; it is started before."""
        ended = "e => new Promise(done => e.ended ? done(true) : e.onended = () => done(true))"
        return medium.evaluate(ended)

    def assert_no_scrolling_sideways(self) -> None:
        wide, visible = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= visible


@contextmanager
def opened(browser: Browser, url: str, screenshots: Path, width: int = 1100) -> Iterator[User]:
    """A browser of its own; nothing on the page may fail, and nothing may ask another server."""
    context = browser.new_context(viewport={"width": width, "height": 850})
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    wrong: list[str] = []
    # A player of gradio's that goes while it loads its sound says so.
    page.on("pageerror", lambda error: wrong.append(str(error))
            if "aborted a request" not in str(error) else None)  # fmt: skip
    # A request that the page's policy forbids does not come this far.
    context.route(
        lambda address: not address.startswith((url, "data:", "blob:")),
        lambda route: wrong.append(route.request.url) or route.abort(),
    )
    page.goto(url)
    user = User(page, screenshots)
    sync_api.expect(user.box).to_be_focused()
    yield user
    context.close()
    assert wrong == []


def assert_accessible(user: User) -> None:
    """See that axe finds nothing but what is known of gradio's own markup."""
    found = axe_playwright.Axe().run(user.page).response["violations"]
    ours = [
        (violation["id"], node["html"])
        for violation in found
        for node in violation["nodes"]
        if not user.page.locator(node["target"][0]).evaluate(
            "(e, own) => Boolean(own) && e.matches(own)", _GRADIOS_OWN.get(violation["id"], "")
        )
    ]
    assert ours == []


def drop(page: Page, path: Path) -> None:
    """Drag a file onto the box."""
    content = base64.b64encode(path.read_bytes()).decode()
    dragged = page.evaluate_handle(
        """async ([name, content]) => {
            const data = new DataTransfer();
            const blob = await (await fetch("data:image/png;base64," + content)).blob();
            data.items.add(new File([blob], name, { type: "image/png" }));
            return data;
        }""",
        ["dropped.png", content],
    )
    page.get_by_role("group", name="Multimedia input field").dispatch_event(
        "drop", {"dataTransfer": dragged}
    )


def reach(user: User, name: str, backwards: bool = False) -> None:
    """Press Tab until what is named so has the focus."""
    passed = []
    while name not in passed[-1:]:
        user.page.keyboard.press("Shift+Tab" if backwards else "Tab")
        passed.append(
            user.page.evaluate(
                "(e => e.ariaLabel || e.placeholder || e.innerText)(document.activeElement)"
            )
        )
        assert len(passed) < 60, f"{name} is not among {passed}"
