"""Videos: any common file in, RGB frames out, mp4 files. Sound tracks are not read."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
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

from nextgpt.media.base import MediaError, Medium, decoded_frames
from nextgpt.media.image import MAX_PIXELS
from nextgpt.modality import Modality

MAX_FRAME_SIDE = 1024
"""Frames are read with their longer side at most this long: 4K takes no more memory than HD."""

SEEK_GAP_S = 4.0
"""Frames nearer than this are reached by decoding on, farther ones by seeking."""

SEEK_MARGINS_S = (0.0, 4.0, 16.0, 64.0)
"""Seeking aims this much before a frame: without an index of key frames it may land behind one."""

TimedFrame = tuple[float, av.VideoFrame]
"""Seconds since the start of the video, and the frame shown from then on."""

_REMEDY = "attach a whole mp4, webm, mkv, mov or avi video"


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says, completed by counting packets where it is silent."""

    num_frames: int
    frames_per_second: float
    start_s: float
    duration_s: float
    width: int
    """Of the frames as they are read, before they are turned upright."""
    height: int


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
            num_frames, height, width, _ = self._frames.shape
            duration_s = num_frames / self._given_rate
            return VideoInfo(num_frames, self._given_rate, 0.0, duration_s, width, height)
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
                num_frames, end_s = 0, -math.inf
                for time_s in _packet_times_s(container, stream):
                    start_s = min(start_s, time_s) if num_frames else time_s
                    num_frames, end_s = num_frames + 1, max(end_s, time_s)
                duration_s = end_s - start_s + (1 / rate if rate else 0.0) if num_frames else 0.0
        if num_frames == 0:
            raise self._error("holds no frames", "attach a video with at least one")
        rate = rate or (num_frames / duration_s if duration_s else 1.0)
        scale = min(1.0, MAX_FRAME_SIDE / max(width, height, 1))
        return VideoInfo(
            num_frames,
            rate,
            start_s,
            duration_s or num_frames / rate,
            max(1, round(width * scale)),
            max(1, round(height * scale)),
        )

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

        Returns:
            (num_frames, H, W, 3) uint8; see ``windows``.

        Raises:
            ValueError: unreadable, empty, truncated, or without moving pictures.
        """
        return self.windows(1, num_frames, self.duration_s)[0]

    def windows(self, num_windows: int, num_frames: int, duration_s: float) -> np.ndarray:
        """Evenly spaced excerpts, the first at the start and the last at the end of the video.

        Frames are from the middles of ``num_frames`` equal spans of each window. A video no longer
        than a window gives equal windows, which cover the whole of it. Long videos are read by
        seeking, and large ones with a longer side of ``MAX_FRAME_SIDE``.

        Returns:
            (num_windows, num_frames, H, W, 3) uint8, upright.

        Raises:
            ValueError: unreadable, empty, truncated, or without moving pictures.
        """
        window_s = min(duration_s, self.duration_s)
        starts_s = np.linspace(0, self.duration_s - window_s, num_windows)
        return self.frames_at(
            starts_s[:, None] + (np.arange(num_frames) + 0.5) / num_frames * window_s
        )

    def check(self) -> Self:
        """Decode the first and the last frame; return self, or raise MediaError."""
        last_s = max(0.0, self.duration_s - 0.5 / self.frames_per_second)
        self.frames_at(np.array([0.0, last_s]))
        return self

    def frames_at(self, times_s: np.ndarray) -> np.ndarray:
        """Frames shown at some times, in seconds since the start and of any shape.

        Returns:
            (*times_s.shape, H, W, 3) uint8; see ``windows``.

        Raises:
            ValueError: unreadable, empty, truncated, or without moving pictures.
        """
        info = self._info
        if self._frames is not None:
            indices = (times_s * info.frames_per_second + 1e-6).astype(int)
            return self._frames[np.minimum(indices, info.num_frames - 1)]
        pictures: list[Any] = [None] * times_s.size
        with self._reading(_REMEDY):
            decoded, gap_s = self._decoded(), SEEK_GAP_S
            current, following = None, next(decoded, None)
            shown_s, picture = None, None
            for index in np.argsort(times_s, axis=None):
                time_s = times_s.flat[index]
                if following is not None and time_s - following[0] > gap_s:
                    sought = self._seek(time_s)
                    if sought is not None and sought[1][0] > following[0]:
                        (decoded, following), current = sought, None
                    elif sought is not None:
                        gap_s = time_s - sought[1][0]  # key frames are that far apart
                while following is not None and (current is None or following[0] <= time_s + 1e-6):
                    current, following = following, next(decoded, None)
                if current is None:
                    raise self._error("holds no frame that can be decoded", _REMEDY)
                if following is None:
                    self._check_reached(time_s, current[0])
                if picture is None or shown_s != current[0]:
                    shown_s, picture = current[0], _to_array(current[1], info.width, info.height)
                pictures[index] = picture
        return np.stack(pictures).reshape(*times_s.shape, *pictures[0].shape)

    def _seek(self, time_s: float) -> tuple[Iterator[TimedFrame], TimedFrame] | None:
        """Decode from a frame before ``time_s``.

        Returns:
            The frames to come and the first of all; None where the file does not lead there, and
            only decoding on does.

        Raises:
            ValueError: the file ends before ``time_s``.
        """
        for margin_s in SEEK_MARGINS_S:
            decoded = self._decoded(max(0.0, time_s - margin_s))
            landing = next(decoded, None)
            if landing is not None and landing[0] <= time_s:
                return decoded, landing
        # Decoding an hour to find that it was cut short takes minutes, looking at it a second.
        with self._open_stream() as (container, stream):
            last_s = max(_packet_times_s(container, stream), default=math.inf)
        self._check_reached(time_s, last_s - self._info.start_s)
        return None

    def _check_reached(self, time_s: float, last_s: float) -> None:
        """Refuse a file whose last frame, at ``last_s``, is over long before ``time_s``."""
        frame_s = 1 / self._info.frames_per_second
        if last_s + frame_s < time_s - max(1.0, 2 * frame_s):
            raise self._error(
                f"truncated, ends at {last_s + frame_s:.1f} s of {self.duration_s:.1f} s",
                "copy it again",
            )

    def _decoded(self, from_s: float = 0.0) -> Iterator[TimedFrame]:
        """Decode frames, from the key frame before ``from_s`` where the file leads there.

        Frames without a time follow the last.
        """
        info = self._info
        frame_s = 1 / info.frames_per_second
        time_s = -frame_s
        with self._open_stream() as (container, stream):
            assert stream.time_base is not None
            if from_s > 0:
                container.seek(int((info.start_s + from_s) / stream.time_base), stream=stream)
            for frame in decoded_frames(container, stream):
                time_s = time_s + frame_s if frame.time is None else frame.time - info.start_s
                yield time_s, frame

    def _write(self, path: Path) -> None:
        if self._frames is not None:
            encode_mp4(path, iter(self._frames), self.frames_per_second)
            return
        info = self._info
        with self._reading(_REMEDY), self._open_stream() as (container, stream):
            if "mp4" in container.format.name and stream.codec_context.name == "h264":
                with self._open() as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                return
        with self._reading(_REMEDY):
            pictures = (_to_array(frame, info.width, info.height) for _, frame in self._decoded())
            encode_mp4(path, pictures, self.frames_per_second)


def _packet_times_s(container: InputContainer, stream: VideoStream) -> Iterator[float]:
    """When each frame of a stream is shown, without decoding it."""
    assert stream.time_base is not None
    for packet in container.demux(stream):
        if packet.pts is not None and packet.size:
            yield float(packet.pts * stream.time_base)


def _to_array(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """Scale to one size, which may change midway in a stream, and turn upright: (H, W, 3) uint8."""
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
