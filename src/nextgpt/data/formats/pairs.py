"""Pairs of a medium and its caption: CC3M, WebVid and AudioCaps in any container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nextgpt.data.formats.schema import Folders, Schema, text_of
from nextgpt.data.rows import Row
from nextgpt.modality import Modality

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Pairs(Schema):
    """Records of a medium, its caption and their number: the user shows, the assistant says."""

    modality: Modality
    file_name: str
    """Name of the medium, with the keys of a record in braces: ``{page_dir}/{videoid}.mp4``."""
    caption: str = "caption"
    """Key of the caption."""
    id: str = "id"
    """Key of what becomes the row's id; records may lack it."""
    number_ids: bool = False
    """Whether ids are numbers in the records."""

    @property
    def keys(self) -> list[str]:
        """The keys that every record has."""
        return [self.caption, *_FIELD.findall(self.file_name)]

    def decode(self, record: dict[str, Any], folders: Folders) -> tuple[str, list[dict[str, Any]]]:
        """See ``Schema.decode``."""
        caption = text_of(record, self.caption)
        missing = [key for key in self.keys if record.get(key) in (None, "")]
        if missing:
            raise ValueError(f"{missing[0]} is missing; a pair has {', '.join(self.keys)}")
        name = _FIELD.sub(lambda field: str(record[field[1]]), self.file_name)
        medium = {"type": str(self.modality), "path": folders.path(name), "caption": caption}
        return str(record.get(self.id, "")), [
            {"role": "user", "content": [medium]},
            {"role": "assistant", "content": caption},
        ]

    def encode(self, row: Row, folders: Folders) -> dict[str, Any]:
        """See ``Schema.encode``."""
        parts = [
            (role, part.get("text", part["type"])) for role, part in row.parts() if part != _EMPTY
        ]
        media = [part for _, part in row.media()]
        caption = media[0].get("caption") if len(media) == 1 else None
        if parts != [("user", self.modality), ("assistant", caption)]:
            raise ValueError(
                f"is no pair of one {self.modality} from the user and its caption from the "
                "assistant; use a format of conversations"
            )
        name = folders.name(media[0])
        pattern = "".join(
            f"(?P<{text}>.+)" if number % 2 else re.escape(text)
            for number, text in enumerate(_FIELD.split(self.file_name))
        )
        fields = re.fullmatch(pattern, name)
        if fields is None:
            raise ValueError(f"the file {name!r} is not named like {self.file_name!r}")
        number = int(row.id) if self.number_ids and row.id.isdecimal() else row.id
        return {self.id: number, self.caption: caption, **fields.groupdict()}


_EMPTY = {"type": Modality.TEXT, "text": ""}
