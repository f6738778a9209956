"""What one browser talks about."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nextgpt.archive import pack
from nextgpt.messages import Conversation, Message
from nextgpt.web.view import Shown, shown_message


class Session:
    """A conversation, and the files that belong to it; they are removed with it.

    Gradio hands each browser a deep copy, and would take a dataclass apart.
    """

    def __init__(self, conversation: Conversation | None = None) -> None:
        """Start with a conversation, whose messages are copied, or with none."""
        self.conversation = Conversation(list(conversation.messages) if conversation else [])
        self.notes: dict[int, str] = {}
        """Small print by the number of a message."""
        self.stopped = threading.Event()
        """Set when the user wants no more of the reply."""
        self._shown: list[Shown] = []
        self._files = TemporaryDirectory(prefix="nextgpt-")

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """Start a session of its own with the same messages."""
        return Session(self.conversation)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(self._files.name)

    @property
    def messages(self) -> list[Message]:
        """Of the conversation."""
        return self.conversation.messages

    def cut(self, length: int) -> list[Message]:
        """Take back all but the first messages; returns what was taken."""
        taken = self.messages[length:]
        del self.messages[length:], self._shown[length:]
        self.notes = {number: note for number, note in self.notes.items() if number < length}
        return taken

    @property
    def last(self) -> Message | None:
        """The last message, if there is one."""
        return self.messages[-1] if self.messages else None

    @property
    def last_question(self) -> int | None:
        """Number of the user's last message, if there is one."""
        asked = [n for n, message in enumerate(self.messages) if message.role == "user"]
        return asked[-1] if asked else None

    def take_back(self, question: Message) -> None:
        """Take back a question, if it is still the last message."""
        if question is self.last:
            self.cut(len(self.messages) - 1)

    def shown(self) -> list[Shown]:
        """Show the conversation."""
        for number in range(len(self._shown), len(self.messages)):
            note = self.notes.get(number, "")
            self._shown.append(shown_message(self.messages[number], self.folder, note))
        return list(self._shown)

    def archives(self) -> Iterator[Path | None]:
        """Pack the last reply and the conversation; None each where there is none."""
        replies = [message for message in self.messages if message.role == "assistant"]
        yield pack(replies[-1], self.folder / "reply.zip") if replies else None
        yield pack(self.conversation, self.folder / "conversation.zip") if replies else None
