"""Requests to answer in bulk: JSON lines, one conversation each."""

from pathlib import Path

from nextgpt.data.json_lines import read_json_lines
from nextgpt.messages import Conversation


def read_requests(path: Path) -> list[tuple[int, Conversation]]:
    """Read conversations in the format of ``Conversation.to_json``.

    A line may also be just ``{"text": ...}``. Media are named relative to the file's folder.
    A manifest of conversations (``nextgpt.data.rows``) is such a file too.

    Returns:
        Line numbers, from 1, and conversations.

    Raises:
        ValueError: the file is missing or a line is not a conversation; names file and line.
    """
    requests = []
    for number, data in read_json_lines(path):
        try:
            if isinstance(data, dict) and isinstance(data.get("text"), str):
                conversation = Conversation().user(data["text"])
            else:
                conversation = Conversation.from_json(data, path.parent)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        requests.append((number, conversation))
    return requests
