"""What records of other projects and rows of a manifest have to do with each other."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from nextgpt.data.rows import Row, parts_of, tidy
from nextgpt.messages import check_relative

ABSENT = "absent"
"""Key of ``extra`` that lists what encoding would add and the original has not."""


@dataclass(frozen=True)
class Folders:
    """Where the files that records name are, relative to the manifest's folder."""

    media: str = ""
    conditioning: str = ""
    """Of ``.npy`` files."""

    def path(self, name: Any) -> str:
        """The path in a manifest of a medium that a record names."""
        return _joined(self.media, name)

    def conditioning_path(self, name: Any) -> str:
        """The same of an ``.npy`` file."""
        return _joined(self.conditioning, name)

    def name(self, part: Mapping[str, Any]) -> str:
        """The name in a record of a manifest's medium."""
        return _below(self.media, part["path"])

    def conditioning_name(self, part: Mapping[str, Any]) -> str:
        """The same of its ``.npy`` file."""
        return _below(self.conditioning, part["conditioning"])


def _joined(folder: str, name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{name!r:.60} is no file name")
    check_relative(name, "file name")
    return f"{folder}/{name}" if folder else name


def _below(folder: str, path: str) -> str:
    if folder and not path.startswith(f"{folder}/"):
        raise ValueError(f"{path!r} is not in the folder {folder!r}; name the folder of the media")
    return path[len(folder) + 1 :] if folder else path


class Schema(ABC):
    """How the records of one kind of data set say what a row says.

    A record is a JSON object. ``decode`` and ``encode`` deal with the fields that have a name in
    the manifest; what a record says beside them is kept in ``extra`` by ``row``, and ``record``
    gives it back.
    """

    @abstractmethod
    def decode(self, record: dict[str, Any], folders: Folders) -> tuple[str, list[dict[str, Any]]]:
        """Read a record.

        Returns:
            Its id, empty where records have none, and its messages.

        Raises:
            ValueError: it lacks a key, or names another number of media than it has places for.
        """

    @abstractmethod
    def encode(self, row: Row, folders: Folders) -> dict[str, Any]:
        """Write a record of a row, without what is in the row's ``extra``.

        Raises:
            ValueError: such records cannot hold what the row holds.
        """

    def row(self, record: Any, number: int, facts: dict[str, Any], folders: Folders) -> Row:
        """Make a row of a record.

        Args:
            record: Plain data.
            number: Makes the id where records have none.
            facts: ``source``, ``licence`` and ``split`` of the row.
            folders: Of the files that it names.

        Raises:
            ValueError: see ``decode``.
        """
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, found {type(record).__name__}")
        name, messages = self.decode(record, folders)
        row = Row(name or f"{facts['source']}-{number:08d}", messages, **facts)
        row.extra = difference(record, self.encode(row, folders))
        return Row.from_json(row.to_json())

    def record(self, row: Row, folders: Folders, lossy: bool = False) -> dict[str, Any]:
        """Make a record of a row.

        Args:
            row: What it says.
            folders: Of the files that it names.
            lossy: Leave out what such records cannot hold.

        Raises:
            ValueError: see ``encode``; or reading the record would not give the row again.
        """
        record = restored(self.encode(row, folders), row.extra)
        if not lossy:
            for number, (before, after) in enumerate(
                zip_longest(row.messages, self.decode(record, folders)[1])
            ):
                if _told(before) != _told(after):
                    raise ValueError(
                        f"messages[{number}]: such records cannot hold {_told(before)}; reading "
                        f"them would give {_told(after)}"
                    )
        return record


def _told(message: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a message says, in one way of several."""
    return {**message, "content": tidy(parts_of(message))} if message else {}


def difference(record: dict[str, Any], encoded: dict[str, Any]) -> dict[str, Any]:
    """What a record says beyond what encoding gives back: other keys, and values of another form.

    An example of another form is a list of one string where a string is usual.
    """
    extra = {
        key: value
        for key, value in record.items()
        if key not in encoded or not _same(value, encoded[key])
    }
    absent = sorted(encoded.keys() - record.keys())
    return {**extra, ABSENT: absent} if absent else extra


def restored(encoded: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The record that ``difference`` was told of."""
    absent = extra.get(ABSENT, [])
    record = {key: value for key, value in encoded.items() if key not in absent}
    return {**record, **{key: value for key, value in extra.items() if key != ABSENT}}


def _same(one: Any, other: Any) -> bool:
    # NOTE: 1, 1.0 and True are equal in Python and differ in JSON.
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def text_of(record: Mapping[str, Any], key: str) -> str:
    """A string of a record.

    Raises:
        ValueError: there is none under this key.
    """
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key}: {value!r:.60} is no string")
    return value


def list_of(record: Mapping[str, Any], key: str) -> list[Any]:
    """A list of a record.

    Raises:
        ValueError: there is none under this key.
    """
    value = record.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key}: {value!r:.60} is no list")
    return value


def known(**values: Any) -> dict[str, Any]:
    """The values that are not None and no empty object."""
    return {key: value for key, value in values.items() if value is not None and value != {}}
