"""Videos: any common file in, RGB frames out, mp4 files. Sound tracks are not read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from nextgpt.media.base import MediaError, Medium
from nextgpt.media.image import MAX_PIXELS
from nextgpt.modality import Modality

MAX_FRAME_SIDE = 1024
"""Frames are read with their longer side at most this long: 4K takes no more memory than HD."""

SEEK_GAP_S = 4.0
"""Frames nearer than this are reached by decoding on, farther ones by seeking."""

_REMEDY = "attach a whole mp4, webm, mkv, mov or avi video"


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says, completed by counting packets where it is silent."""

    num_frames: int
    frames_per_second: float
    start_s: float
    duration_s: float


class Video(Medium):
    """A video."""

    modality = Modality.VIDEO

    def __init__(
        self,
        source: str | Path | bytes | np.ndarray,
        frames_per_second: float | None = None,
        caption: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Keep the source; a file is read when it is first needed.

        Args:
            source: Path, bytes, or uint8 array (T, H, W, 3).
            frames_per_second: Of the array; a file knows its own.
            caption: What happens, where known.
            seed: The seed it was generated with, where it was generated.

        Raises:
            ValueError: an array of another type or shape, or without a rate.
        """
        self._frames: np.ndarray | None = None
        self._given_rate = frames_per_second
        super().__init__(source, caption, seed)

    def _take_decoded(self, source: Any) -> None:
        if not isinstance(source, np.ndarray):
            raise self._error(
                f"{type(source).__name__} is no video", "give a path, bytes or an array"
            )
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3:
            raise self._error(f"array {source.shape} {source.dtype}", "give uint8 (T, H, W, 3)")
        if source.size == 0:
            raise self._error(f"array {source.shape} has no frames", "give at least one")
        if not self._given_rate or self._given_rate <= 0:
            raise self._error(
                f"frames_per_second is {self._given_rate}", "give the rate of the array"
            )
        self._frames = source

    def _decoded_array(self) -> np.ndarray:
        assert self._frames is not None
        return self._frames

    @contextmanager
    def _open_stream(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        with self._open_container() as container:
            for stream in container.streams.video:
                if (
                    not stream.disposition & Disposition.attached_pic
                ):  # the cover of a song is no video
                    stream.thread_type = "AUTO"
                    yield container, stream
                    return
            held = "only sound, attach it as audio" if container.streams.audio else _REMEDY
            raise self._error("holds no moving pictures", held)

    def has_moving_pictures(self) -> bool:
        """Whether the content is a container with a video stream, whatever the file is called."""
        try:
            with self._open_stream():
                return True
        except (MediaError, av.FFmpegError):
            return False

    @cached_property
    def _info(self) -> VideoInfo:
        if self._frames is not None:
            assert self._given_rate is not None
            num_frames = len(self._frames)
            return VideoInfo(num_frames, self._given_rate, 0.0, num_frames / self._given_rate)
        with self._reading(_REMEDY), self._open_stream() as (container, stream):
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise self._error(
                    f"frames of {width}x{height} are {width * height / 1e6:.0f} megapixels",
                    f"the limit is {MAX_PIXELS // 1_000_000}, make it smaller",
                )
            assert stream.time_base is not None
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            num_frames, duration_s = stream.frames, float((stream.duration or 0) * stream.time_base)
            start_s = float((stream.start_time or 0) * stream.time_base)
            if not num_frames or not duration_s:
                times = [
                    float(packet.pts * stream.time_base)
                    for packet in container.demux(stream)
                    if packet.pts is not None and packet.size
                ]
                num_frames = len(times)
                if times:
                    start_s, frame_s = min(times), 1 / rate if rate else 0.0
                    duration_s = max(times) - start_s + frame_s
        if num_frames == 0:
            raise self._error("holds no frames", "attach a video with at least one")
        rate = rate or (num_frames / duration_s if duration_s else 1.0)
        return VideoInfo(num_frames, rate, start_s, duration_s or num_frames / rate)

    @property
    def num_frames(self) -> int:
        """Number of frames as the file states or, where it does not, as counted."""
        return self._info.num_frames

    @property
    def frames_per_second(self) -> float:
        """Average frame rate."""
        return self._info.frames_per_second

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self._info.duration_s

    def frames(self, num_frames: int) -> np.ndarray:
        """Frames from the middles of ``num_frames`` equal spans of time; few frames are repeated.

        Long videos are read by seeking, and large ones with a longer side of ``MAX_FRAME_SIDE``.

        Returns:
            (num_frames, H, W, 3) uint8, upright.

        Raises:
            ValueError: unreadable, empty, truncated, or without moving pictures.
        """
        middles = (np.arange(num_frames) + 0.5) / num_frames
        if self._frames is not None:
            return self._frames[(middles * len(self._frames)).astype(int)]
        return self._frames_at([float(middle) for middle in middles * self.duration_s])

    def check(self) -> Self:
        """Decode the first and the last frame; return self, or raise MediaError."""
        if self._frames is None:
            self._frames_at([0.0, max(0.0, self.duration_s - 0.5 / self.frames_per_second)])
        return self

    def _frames_at(self, times_s: Sequence[float]) -> np.ndarray:
        """The frames shown at rising times since the start; (len(times_s), H, W, 3) uint8."""
        info, pictures = self._info, []
        frame_s = 1 / info.frames_per_second
        with self._reading(_REMEDY), self._open_stream() as (container, stream):
            assert stream.time_base is not None
            decoded = _timed(container, stream, frame_s)
            current, following = None, next(decoded, None)
            shown_s, picture = None, None
            for time_s in times_s:
                wanted_s = time_s + info.start_s
                if following is not None and wanted_s - following[0] > SEEK_GAP_S:
                    container.seek(int(wanted_s / stream.time_base), stream=stream)
                    decoded = _timed(container, stream, frame_s)
                    current, following = following, next(decoded, None)
                while following is not None and (
                    current is None or following[0] <= wanted_s + 1e-6
                ):
                    current, following = following, next(decoded, None)
                if current is None:
                    raise self._error("holds no frame that can be decoded", _REMEDY)
                reached_s = current[0] + frame_s - info.start_s
                if following is None and reached_s < time_s - max(1.0, 2 * frame_s):
                    raise self._error(
                        f"truncated, ends at {reached_s:.1f} s of {info.duration_s:.1f} s",
                        "copy it again",
                    )
                if picture is None or shown_s != current[0]:
                    shown_s, picture = current[0], _to_array(current[1], MAX_FRAME_SIDE)
                pictures.append(picture)
        return np.stack(pictures)

    def _write(self, path: Path) -> None:
        if self._frames is not None:
            encode_mp4(path, iter(self._frames), self.frames_per_second)
            return
        with self._reading(_REMEDY), self._open_stream() as (container, stream):
            if "mp4" in container.format.name and stream.codec_context.name == "h264":
                with self._open() as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                return
            pictures = (_to_array(frame, MAX_FRAME_SIDE) for frame in container.decode(stream))
            encode_mp4(path, pictures, self.frames_per_second)


def _timed(
    container: InputContainer, stream: VideoStream, frame_s: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decode (seconds, frame) from where the container stands; untimed frames follow the last."""
    time_s = -frame_s
    for frame in container.decode(stream):
        time_s = time_s + frame_s if frame.time is None else frame.time
        yield time_s, frame


def _to_array(frame: av.VideoFrame, max_side: int) -> np.ndarray:
    """Upright (H, W, 3) uint8, the longer side at most ``max_side``."""
    scale = min(1.0, max_side / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90)))


def encode_mp4(path: Path, pictures: Iterator[np.ndarray], frames_per_second: float) -> None:
    """Write (H, W, 3) uint8 pictures as h264 yuv420p, which every browser plays.

    That format has even sides: an odd one is extended by repeating its last row or column.
    """
    rate = Fraction(frames_per_second).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"crf": "17", "preset": "veryfast"}
        )
        for picture in pictures:
            height, width = picture.shape[:2]
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
