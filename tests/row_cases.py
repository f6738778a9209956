"""Cases as the rows about generated media take them."""

from __future__ import annotations

from nextgpt.evaluation.requests import ExpectedMedium
from nextgpt.evaluation.results import Case
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message


def answered(expected: ExpectedMedium, medium: Medium | None) -> Case:
    """Answer a wish with a medium, or with words alone."""
    reply = Message("assistant", ["Here you are.", *([] if medium is None else [medium])])
    return Case(expected, medium, Conversation().user("A wish."), reply)
