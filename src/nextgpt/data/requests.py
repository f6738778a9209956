"""Requests to answer in bulk: JSON lines, one conversation each."""

import json
from pathlib import Path

from nextgpt.messages import Conversation


def read_requests(path: Path) -> list[tuple[int, Conversation]]:
    """Read conversations in the format of ``Conversation.to_json``.

    A line may also be just ``{"text": ...}``. Media are named relative to the file's folder.

    Returns:
        Line numbers, from 1, and conversations.

    Raises:
        ValueError: the file is missing or a line is not a conversation; names file and line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a file of JSON lines")
    try:
        # NOTE: not splitlines(), which also splits at breaks that JSON allows inside a string.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); name a file of JSON lines") from error
    requests = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            if isinstance(data, dict) and isinstance(data.get("text"), str):
                conversation = Conversation().user(data["text"])
            else:
                conversation = Conversation.from_json(data, path.parent)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        requests.append((number, conversation))
    return requests
