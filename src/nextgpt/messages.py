"""Conversations: messages of text and media in any order; OpenAI-style JSON both ways."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any, Literal, Self, cast, get_args

from nextgpt.media import MEDIUM_TYPES, Audio, Image, Medium, Video
from nextgpt.media.base import atomic_path
from nextgpt.modality import MODALITIES, Modality

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)
Part = str | Medium

PART_KEYS = frozenset({"type", "path", "caption", "seed", "conditioning", "extra"})
"""What may be said of a medium; the last two are for manifests, see ``nextgpt.data.rows``."""

_VALUE_TYPES = (("path", str), ("caption", (str, NoneType)), ("seed", (int, NoneType)))
_PART_TYPES = ", ".join(Modality)


@dataclass
class Message:
    """What one side says: parts in the order in which they were said.

    Raises:
        ValueError: an unknown role, or a part that is neither text nor medium.
    """

    role: Role
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what is no message, and copy the list."""
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is unknown; use one of {', '.join(ROLES)}")
        if isinstance(self.parts, str) or not isinstance(self.parts, Sequence):
            raise ValueError(f"parts of type {type(self.parts).__name__}; give a list of parts")
        for part in self.parts:
            if not isinstance(part, Part):
                raise ValueError(
                    f"part of type {type(part).__name__}; give str, Image, Audio or Video"
                )
        self.parts = list(self.parts)

    @property
    def text(self) -> str:
        """The text parts, one space between them where media stood."""
        return " ".join(part.strip() for part in self.parts if isinstance(part, str))

    @property
    def media(self) -> list[Medium]:
        """Every part that is not text, in order."""
        return [part for part in self.parts if not isinstance(part, str)]

    @property
    def images(self) -> list[Image]:
        """The pictures, in order."""
        return [part for part in self.parts if isinstance(part, Image)]

    @property
    def audios(self) -> list[Audio]:
        """The sounds, in order."""
        return [part for part in self.parts if isinstance(part, Audio)]

    @property
    def videos(self) -> list[Video]:
        """The videos, in order."""
        return [part for part in self.parts if isinstance(part, Video)]

    def save(self, folder: str | Path) -> list[Path]:
        """Write the media as files and the message as ``message.json``, which names them.

        Returns:
            The paths of the media in reply order, then that of ``message.json``.
        """
        folder = Path(folder)
        content = self.to_json(folder)
        paths = [
            folder / part["path"] for part in content["content"] if part["type"] != Modality.TEXT
        ]
        return [*paths, _write_json(folder / "message.json", content)]

    def to_json(self, media_dir: Path, prefix: str = "") -> dict[str, Any]:
        """The message as plain data; its media are written to ``media_dir`` and named inside it."""
        content: list[dict[str, Any]] = []
        numbers: Counter[Modality] = Counter()
        for part in self.parts:
            if isinstance(part, str):
                content.append({"type": str(Modality.TEXT), "text": part})
                continue
            numbers[part.modality] += 1
            suffix = MODALITIES[part.modality].file_suffix
            name = f"{prefix}{part.modality}-{numbers[part.modality]}{suffix}"
            entry = {"type": str(part.modality), "path": part.save(media_dir / name).name}
            known = {"caption": part.caption, "seed": part.seed}
            content.append(
                entry | {key: value for key, value in known.items() if value is not None}
            )
        return {"role": self.role, "content": content}

    @classmethod
    def from_json(
        cls,
        data: Any,
        media_root: Path | None,
        where: str = "message",
        look_up: bool = True,
    ) -> Message:
        """Read what ``to_json`` wrote; ``content`` may also be a plain string.

        Args:
            data: the plain data.
            media_root: folder that media paths are relative to and must stay inside; None refuses
                paths.
            where: the place of ``data`` in its file, for errors.
            look_up: whether media must be there now; otherwise only their names are looked at.

        Raises:
            ValueError: the message names the place and the offending value.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{where}: {data!r:.60} is no object; give role and content")
        if data.get("role") not in ROLES:
            raise ValueError(
                f"{where}.role: {data.get('role')!r:.60} is unknown; use one of {', '.join(ROLES)}"
            )
        content = data.get("content")
        if isinstance(content, str):
            return cls(cast(Role, data["role"]), [content])
        if not isinstance(content, list):
            raise ValueError(
                f"{where}.content: {content!r:.60} is neither a string nor a list of parts"
            )
        parts = [
            _part_from_json(part, media_root, f"{where}.content[{index}]", look_up)
            for index, part in enumerate(content)
        ]
        return cls(cast(Role, data["role"]), parts)


@dataclass
class Conversation:
    """Messages in order."""

    messages: list[Message] = field(default_factory=list)

    def user(self, *parts: Part) -> Self:
        """Append what the user says and return the conversation."""
        self.messages.append(Message("user", list(parts)))
        return self

    def assistant(self, *parts: Part) -> Self:
        """Append what the assistant says and return the conversation."""
        self.messages.append(Message("assistant", list(parts)))
        return self

    def to_json(self, media_dir: str | Path) -> dict[str, Any]:
        """The conversation as plain data; its media are written to ``media_dir``."""
        return {
            "messages": [
                message.to_json(Path(media_dir), prefix=f"{index:03d}-")
                for index, message in enumerate(self.messages)
            ]
        }

    @classmethod
    def from_json(
        cls,
        source: str | Path | Mapping[str, Any],
        media_root: str | Path | None = None,
        look_up: bool = True,
    ) -> Conversation:
        """Read a conversation from a JSON file or from plain data.

        Args:
            source: a path, or data with a list of ``messages``.
            media_root: folder that media paths are relative to and must stay inside. For a file
                its own folder unless given; for data without it, media are refused.
            look_up: whether media must be there now; otherwise only their names are looked at.

        Raises:
            ValueError: the message names the place and the offending value.
        """
        data: Any = source
        name = ""
        if isinstance(source, str | Path):
            path = Path(source)
            media_root = path.parent if media_root is None else media_root
            name = f"{path}: "
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: cannot be read as JSON ({error})") from error
        messages = data.get("messages") if isinstance(data, Mapping) else None
        if not isinstance(messages, list):
            raise ValueError(
                f"{name}messages: {messages!r:.60} is no list; give a list of messages"
            )
        root = None if media_root is None else Path(media_root)
        return cls(
            [
                Message.from_json(message, root, f"{name}messages[{index}]", look_up)
                for index, message in enumerate(messages)
            ]
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``conversation.json`` and its media to ``folder``; ``from_json`` reads it back."""
        return _write_json(Path(folder) / "conversation.json", self.to_json(folder))


def _part_from_json(data: Any, media_root: Path | None, where: str, look_up: bool) -> Part:
    """Read one part of a message; see ``Message.from_json``."""
    kind = data.get("type") if isinstance(data, Mapping) else None
    if kind == Modality.TEXT:
        if not isinstance(data.get("text"), str):
            raise ValueError(f"{where}.text: {data.get('text')!r:.60} is no string")
        return cast(str, data["text"])
    if not isinstance(kind, str) or kind not in MODALITIES:
        raise ValueError(f"{where}.type: {kind!r:.60} is unknown; use one of {_PART_TYPES}")
    if not data.keys() <= PART_KEYS:
        unknown = min(data.keys() - PART_KEYS)
        raise ValueError(f"{where}: unknown key {unknown!r}; use path, caption and seed")
    for key, allowed in _VALUE_TYPES:
        if not isinstance(data.get(key), allowed):
            raise ValueError(f"{where}.{key}: {data.get(key)!r:.60} has the wrong type")
    if media_root is None:
        raise ValueError(
            f"{where}.path: {data['path']!r} cannot be looked up without a media folder"
        )
    if look_up:
        path = path_inside(media_root, data["path"], f"{where}.path")
        if not path.is_file():
            raise ValueError(f"{where}.path: no such file {path}; check the path")
    else:
        check_relative(data["path"], f"{where}.path")
        path = media_root / data["path"]
    medium_type = MEDIUM_TYPES[Modality(kind)]
    return medium_type(path, caption=data.get("caption"), seed=data.get("seed"))


def check_relative(name: str, where: str) -> None:
    """Refuse a name that is no path below the folder it is relative to, without a look at disk.

    Raises:
        ValueError: empty, an address, absolute, or with ``..`` in it; names ``where`` and the name.
    """
    if not name or "\0" in name:
        raise ValueError(f"{where}: {name!r:.60} is no file name")
    if "://" in name:
        raise ValueError(f"{where}: {name!r:.200} is an address; download the file and name that")
    if name[0] == "/" or (".." in name and ".." in PurePosixPath(name).parts):
        raise ValueError(f"{where}: {name!r:.200} is outside of the folder; move it inside")


def path_inside(folder: Path, name: str, where: str) -> Path:
    """The resolved path of a file below a folder.

    Raises:
        ValueError: it leads out of the folder, be it by ``..`` or by a symbolic link.
    """
    check_relative(name, where)
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{where}: {name!r} is outside of {folder}; move it inside")
    return path


def _write_json(path: Path, data: dict[str, Any]) -> Path:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
