"""Conversations as zip archives: ``conversation.json`` and its media."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from nextgpt.media.base import atomic_path
from nextgpt.messages import Conversation, Message

CONVERSATION = "conversation.json"
MAX_FILES = 2000
MAX_BYTES = 2 * 1024**3
"""Of all files of an archive, unpacked."""


def pack(content: Conversation | Message, path: Path) -> Path:
    """Write a conversation, or one message of it, with its media as a zip archive."""
    with TemporaryDirectory() as folder, atomic_path(path) as partial:
        content.save(folder)
        # Media are compressed already.
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(Path(folder).iterdir()):
                archive.write(file, file.name)
    return path


def open_saved(path: Path, folder: Path) -> Conversation:
    """Open what a chat saved.

    Args:
        path: A zip archive, a folder, or a ``conversation.json``.
        folder: Receives the files of an archive; they must stay while the conversation is used.

    Raises:
        ValueError: there is no conversation in it, or an archive is damaged, too large or holds
            anything but files side by side.
    """
    if path.is_dir():
        return Conversation.from_json(path / CONVERSATION)
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path")
    if not zipfile.is_zipfile(path):
        return Conversation.from_json(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _unpack(archive, path, folder)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError) as error:
        # RuntimeError: encrypted, or packed in a way that is not known here.
        raise ValueError(f"{path}: cannot be unpacked ({error}); save it anew") from error
    return Conversation.from_json(folder / CONVERSATION)


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path) -> None:
    members = archive.infolist()
    if CONVERSATION not in archive.namelist():
        raise ValueError(f"{path}: holds no {CONVERSATION}; choose a conversation that was saved")
    if len(members) > MAX_FILES:
        raise ValueError(f"{path}: holds {len(members)} files, more than {MAX_FILES}")
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise ValueError(f"{path}: holds {size:,} bytes unpacked, more than {MAX_BYTES:,}")
    for name in archive.namelist():
        if PurePosixPath(name).name != name or "\\" in name:
            raise ValueError(f"{path}: {name!r} is no file name without a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for member in members:
        # NOTE: zipfile reads no more of a member than its header says.
        archive.extract(member, folder)
