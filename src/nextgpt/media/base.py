"""What pictures, sounds and videos have in common: a source, a name in errors, a hash, a file."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from nextgpt.modality import MODALITIES, Modality

# NOTE: only formats that hold their media themselves. Playlists (hls, concat, dash) name other
# files and addresses, and would let a file from outside read the disk or the network.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,gif,"
    "ogg,mp3,aac,flac,wav,w64,aiff,caf,amr,au,ape,wv,ac3"
)


class MediaError(ValueError):
    """A medium that cannot be used; one line names the file, the trouble and the remedy."""


class Medium(ABC):
    """A picture, a sound or a video, read from its source when it is first needed."""

    modality: ClassVar[Modality]

    def __init__(self, source: Any, caption: str | None = None, seed: int | None = None) -> None:
        """Keep the source, unread.

        Args:
            source: A path, the bytes of a file, or decoded data (see the subclass).
            caption: What the medium shows, where known.
            seed: The seed it was generated with, where it was generated.
        """
        self.caption = caption
        self.seed = seed
        self.path: Path | None = None
        """The file it is read from, or None for bytes and decoded data."""
        self.label: str | None = None
        """What errors call bytes that came from somewhere."""
        self._data: bytes | None = None
        if isinstance(source, str | Path):
            self.path = source if isinstance(source, Path) else Path(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            self._data = bytes(source)
        else:
            self._take_decoded(source)

    @abstractmethod
    def _take_decoded(self, source: Any) -> None:
        """Keep decoded data, or raise MediaError when it has the wrong type or shape."""

    @abstractmethod
    def _decoded_array(self) -> np.ndarray:
        """The decoded data of a medium that was not read from a file."""

    @abstractmethod
    def _write(self, path: Path) -> None:
        """Encode into ``path``, which does not exist yet and has the right suffix."""

    @abstractmethod
    def check(self) -> Self:
        """Read enough to know that the whole is usable; return self, or raise MediaError."""

    @property
    def name(self) -> str:
        """What errors call this medium: the path, or a description of data without one."""
        return str(self.path) if self.path is not None else self.label or f"{self.modality} data"

    def __repr__(self) -> str:
        """Name the type, the file, the caption and the seed."""
        return f"{type(self).__name__}({self.name!r}, caption={self.caption!r}, seed={self.seed!r})"

    @property
    def _from_file(self) -> bool:
        return self.path is not None or self._data is not None

    def _open(self) -> BinaryIO:
        """Open the encoded bytes; a missing or empty file is a MediaError."""
        if self._data is not None:
            if not self._data:
                raise self._error("is empty", "attach a file that holds something")
            return io.BytesIO(self._data)
        assert self.path is not None, "decoded media have no encoded bytes"
        if not self.path.exists():
            raise self._error("no such file", "check the path")
        if not self.path.is_file():
            raise self._error("is not a file", "attach a file")
        try:
            if self.path.stat().st_size == 0:
                raise self._error("is empty", "attach a file that holds something")
            return self.path.open("rb")
        except OSError as error:
            raise self._error(f"cannot be opened ({error.strerror})", "check its rights") from error

    @contextmanager
    def _open_container(self) -> Iterator[InputContainer]:
        """Open the encoded bytes with PyAV."""
        with (
            self._open() as file,
            av.open(file, container_options={"format_whitelist": CONTAINER_FORMATS}) as container,
        ):
            assert isinstance(container, InputContainer)
            yield container

    def _error(self, trouble: str, remedy: str) -> MediaError:
        return MediaError(" ".join(f"{self.name}: {trouble}; {remedy}".split()))

    @contextmanager
    def _reading(self, remedy: str) -> Iterator[None]:
        """Turn whatever a decoder raises into one MediaError that names the file."""
        try:
            yield
        except MediaError:
            raise
        except (
            Exception
        ) as error:  # NOTE: decoders of broken files raise anything, struct.error included
            # What ffmpeg says, without the name of its function.
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            trouble = f"cannot be read as {self.modality} ({reason})"
            raise self._error(trouble, remedy) from error

    def content_hash(self) -> str:
        """SHA-256 over the file's bytes, or over the decoded data: the key of the feature cache.

        Two files with equal pixels but different compression have different hashes.
        """
        digest = hashlib.sha256(f"{self.modality}\n".encode())
        if self._from_file:
            with self._open() as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        else:
            array = self._decoded_array()
            digest.update(f"{array.shape} {array.dtype}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write as png, wav or mp4; the file appears whole or not at all.

        Raises:
            ValueError: another suffix than the modality's, or a source that cannot be read.
        """
        path = Path(path)
        suffix = MODALITIES[self.modality].file_suffix
        if path.suffix.lower() != suffix:
            raise MediaError(
                f"{path}: {self.modality} is saved as {suffix}; name it {path.stem}{suffix}"
            )
        with atomic_path(path) as partial:
            self._write(partial)
        return path


def decoded_frames(
    container: InputContainer, stream: AudioStream | VideoStream
) -> Iterator[av.AudioFrame | av.VideoFrame]:
    """Decode a stream from where the container stands.

    What cannot be decoded is left out, as players do: the frames' times tell how much is there.
    """
    for packet in container.demux(stream):
        with suppress(av.error.InvalidDataError):
            yield from packet.decode()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a neighbour of ``path`` to write, which takes its place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a neighbour of ``path`` to fill, which takes its place only if the block succeeds.

    Raises:
        ValueError: there is something at ``path`` already.
    """
    if path.exists():
        raise ValueError(f"{path}: exists already; name a new folder")
    with atomic_path(path) as partial:
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial)
            raise
