"""Sounds: any common file in, float samples out, wav files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
import soundfile

from nextgpt.media.base import Medium, decoded_frames
from nextgpt.modality import Modality

MAX_WAVEFORM_SAMPLES = 2**28
"""More samples (1 GiB as float32) are read by windows only."""

MAX_SAMPLE_RATE_HZ = 768_000
"""No recorder has more; a broken header may, and resampling would take all memory."""

TRUNCATION_TOLERANCE_S = 0.5
"""Compressed formats may end this much before the length in their header."""

_REMEDY = "attach a whole wav, flac, mp3, ogg or m4a sound"


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound says."""

    sample_rate_hz: int
    num_channels: int
    num_samples: int
    """Per channel."""
    reader: str
    """``array``, ``soundfile`` or ``container`` (PyAV)."""


class Audio(Medium):
    """A sound."""

    modality = Modality.AUDIO

    def __init__(
        self,
        source: str | Path | bytes | np.ndarray,
        sample_rate_hz: int | None = None,
        caption: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Keep the source; a file is read when it is first needed.

        Args:
            source: Path, bytes, or float array (channels, T) or (T,) in [-1, 1].
            sample_rate_hz: Of the array; a file knows its own.
            caption: What is heard, where known.
            seed: The seed it was generated with, where it was generated.

        Raises:
            ValueError: an array of another type or shape, or without a rate.
        """
        self._samples: np.ndarray | None = None
        self._given_rate_hz = sample_rate_hz
        super().__init__(source, caption, seed)

    def _take_decoded(self, source: Any) -> None:
        if not isinstance(source, np.ndarray):
            raise self._error(
                f"{type(source).__name__} is no sound", "give a path, bytes or an array"
            )
        samples = source[None] if source.ndim == 1 else source
        if samples.ndim != 2 or samples.dtype.kind != "f":
            raise self._error(
                f"array {source.shape} {source.dtype}",
                "give floats in [-1, 1], (channels, T) or (T,)",
            )
        if samples.size == 0 or not np.isfinite(samples).all():
            raise self._error(
                f"array {source.shape} is empty or not finite", "give at least one sample"
            )
        if not self._given_rate_hz or self._given_rate_hz <= 0:
            raise self._error(
                f"sample_rate_hz is {self._given_rate_hz}", "give the rate of the array"
            )
        self._samples = samples.astype(np.float32)

    def _decoded_array(self) -> np.ndarray:
        return np.append(self.waveform.ravel(), np.float32(self.sample_rate_hz))

    @cached_property
    def _info(self) -> AudioInfo:
        if self._samples is not None:
            assert self._given_rate_hz is not None
            num_channels, num_samples = self._samples.shape
            return AudioInfo(self._given_rate_hz, num_channels, num_samples, "array")
        with self._reading(_REMEDY):
            info = self._soundfile_info() or self._container_info()
        if info.num_samples == 0:
            raise self._error("holds no samples", "attach a sound with at least one")
        if info.sample_rate_hz > MAX_SAMPLE_RATE_HZ:
            raise self._error(
                f"sample rate of {info.sample_rate_hz} Hz, the limit is {MAX_SAMPLE_RATE_HZ}",
                "save it at 48000 Hz",
            )
        return info

    def has_sound(self) -> bool:
        """Whether the content starts as a sound does, whatever the file is called."""
        if self._suits_soundfile():
            return True
        try:
            with self._open_container() as container:
                return bool(container.streams.audio)
        except av.FFmpegError:
            return False

    def _suits_soundfile(self) -> bool:
        """Whether libsndfile reads it well.

        NOTE: not so mp3. After a seek libsndfile 1.2.2 gives other samples, and it writes warnings
        about broken files straight to the terminal.
        """
        with self._open() as file:
            head = file.read(3)
            if head == b"ID3" or (len(head) == 3 and head[0] == 0xFF and head[1] >= 0xE0):
                return False
            file.seek(0)
            try:
                with soundfile.SoundFile(file) as sound:
                    return sound.format != "MP3"
            except (soundfile.SoundFileError, TypeError):
                return False

    def _soundfile_info(self) -> AudioInfo | None:
        """The header as libsndfile reads it, or None where PyAV has to."""
        if not self._suits_soundfile():
            return None
        with self._open() as file:
            with soundfile.SoundFile(file) as sound:
                info = AudioInfo(sound.samplerate, sound.channels, sound.frames, "soundfile")
            file.seek(0)
            head, num_bytes = file.read(8), file.seek(0, 2)
        # libsndfile quietly shortens a wav file that ends early. Writers to a pipe leave a length
        # near 2^32, which says nothing.
        declared = int.from_bytes(head[4:], "little") + 8
        if head[:4] == b"RIFF" and num_bytes + 1 < declared < 0x7FFF0000:
            raise self._error(
                f"truncated, {num_bytes} of {declared} bytes are there", "copy it again"
            )
        return info if info.num_samples < 2**40 else None  # streamed flac does not know its length

    def _container_info(self) -> AudioInfo:
        with self._open_container() as container:
            if not container.streams.audio:
                raise self._error("holds no sound", _REMEDY)
            stream = container.streams.audio[0]
            rate_hz, num_channels = stream.codec_context.sample_rate, stream.codec_context.channels
            # ffmpeg guesses the length of these from the bit rate of their start.
            is_guess = container.format.name == "aac" or (
                container.format.name == "mp3" and not self._states_mp3_length()
            )
            if stream.duration is not None and stream.time_base is not None and not is_guess:
                duration_s = stream.duration * stream.time_base
            elif container.duration is not None and not is_guess:
                duration_s = Fraction(container.duration, av.time_base)
            else:
                duration_s = Fraction(0)
                for packet in container.demux(stream):
                    if packet.pts is not None:
                        end = packet.pts + (packet.duration or 0) - (stream.start_time or 0)
                        duration_s = max(duration_s, end * packet.time_base)
        return AudioInfo(rate_hz, num_channels, round(duration_s * rate_hz), "container")

    def _states_mp3_length(self) -> bool:
        """Whether the first frame of an mp3 file is the header that counts the others."""
        with self._open() as file:
            tag = file.read(10)
            if tag[:3] == b"ID3":  # its length has seven bits a byte
                file.seek(10 + sum(byte << 7 * place for place, byte in enumerate(tag[:5:-1])))
            else:
                file.seek(0)
            first_frame = file.read(200)
        return any(name in first_frame for name in (b"Xing", b"Info", b"VBRI"))

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second and channel."""
        return self._info.sample_rate_hz

    @property
    def num_channels(self) -> int:
        """1 for mono, 2 for stereo, and so on."""
        return self._info.num_channels

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self._info.num_samples / self._info.sample_rate_hz

    @property
    def waveform(self) -> np.ndarray:
        """(channels, T) float32, the whole sound at its own rate.

        Raises:
            ValueError: unreadable, empty, truncated, or more than ``MAX_WAVEFORM_SAMPLES``.
        """
        info = self._info
        if info.num_samples * info.num_channels > MAX_WAVEFORM_SAMPLES:
            raise self._error(
                f"{self.duration_s:.0f} s are too long to read at once", "read it by windows(...)"
            )
        return self._section(0, info.num_samples)

    def windows(self, num_windows: int, duration_s: float, sample_rate_hz: int) -> np.ndarray:
        """Evenly spaced excerpts, the first at the start and the last at the end of the sound.

        Only the excerpts are read. Channels are averaged; a sound shorter than a window is
        followed by silence.

        Returns:
            (num_windows, round(duration_s * sample_rate_hz)) float32.
        """
        info = self._info
        length = round(duration_s * sample_rate_hz)
        count = int(np.ceil(duration_s * info.sample_rate_hz)) + 1
        last_start = max(0, info.num_samples - count + 1)
        starts, place = np.unique(
            np.linspace(0, last_start, num_windows).astype(int), return_inverse=True
        )
        windows: np.ndarray = np.zeros((len(starts), length), np.float32)
        for window, start in zip(windows, starts, strict=True):
            mono = self._section(int(start), count).mean(axis=0)
            resampled = _resample(mono, info.sample_rate_hz, sample_rate_hz)[:length]
            window[: len(resampled)] = resampled
        return windows[place]

    def check(self) -> Self:
        """Decode the first and the last second; return self, or raise MediaError."""
        rate_hz = self.sample_rate_hz
        self._section(0, rate_hz)
        self._section(max(0, self._info.num_samples - rate_hz), rate_hz)
        return self

    def _section(self, start: int, count: int) -> np.ndarray:
        """Samples (channels, n) from ``start``; n is ``count``, or less at the end of the sound."""
        blocks, missing = [], count
        with self._reading(_REMEDY):
            for block in self._blocks(start):
                blocks.append(block[:, :missing])
                missing -= blocks[-1].shape[1]
                if missing <= 0:
                    break
            else:
                reached = start + count - missing
                if reached < self._info.num_samples - TRUNCATION_TOLERANCE_S * self.sample_rate_hz:
                    trouble = f"truncated, ends before its {self.duration_s:.1f} s"
                    raise self._error(trouble, "copy it again")
        empty: np.ndarray = np.zeros((self.num_channels, 0), np.float32)
        return _playable(np.concatenate([empty, *blocks], axis=1))

    def _blocks(self, start: int) -> Iterator[np.ndarray]:
        """Blocks (channels, n) of about a second or less, from sample ``start`` to the end."""
        info = self._info
        if self._samples is not None:
            yield self._samples[:, start:]
        elif info.reader == "soundfile":
            with self._open() as file, soundfile.SoundFile(file) as sound:
                sound.seek(start)
                while len(
                    block := sound.read(info.sample_rate_hz, dtype="float32", always_2d=True)
                ):
                    yield block.T
        else:
            yield from self._container_blocks(start)

    def _container_blocks(self, start: int) -> Iterator[np.ndarray]:
        rate_hz = self._info.sample_rate_hz
        with self._open_container() as container:
            stream = container.streams.audio[0]
            assert stream.time_base is not None
            origin_s = float((stream.start_time or 0) * stream.time_base)
            if start > 0:
                # One second early: a lossy decoder needs a run-up before its output is right.
                seek_s = max(0.0, start / rate_hz - 1) + origin_s
                container.seek(int(seek_s / stream.time_base), stream=stream)
            to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate_hz)
            position: int | None = None
            for frame in decoded_frames(container, stream):
                if position is None:
                    position = round(((frame.time or 0.0) - origin_s) * rate_hz)
                for converted in to_float.resample(frame):
                    block = converted.to_ndarray()
                    skipped = min(max(start - position, 0), block.shape[1])
                    position += block.shape[1]
                    yield block[:, skipped:]

    def _write(self, path: Path) -> None:
        with soundfile.SoundFile(
            path, "w", self.sample_rate_hz, self.num_channels, subtype="PCM_16", format="WAV"
        ) as sound:
            num_written = 0
            with self._reading(_REMEDY):
                for block in self._blocks(0):
                    sound.write(_playable(block).T)
                    num_written += block.shape[1]
        if num_written < self._info.num_samples - TRUNCATION_TOLERANCE_S * self.sample_rate_hz:
            trouble = f"truncated, ends before its {self.duration_s:.1f} s"
            raise self._error(trouble, "copy it again")


def _playable(samples: np.ndarray) -> np.ndarray:
    """What a loudspeaker makes of any floats: nothing of what is no number, and at most 1."""
    return np.clip(np.nan_to_num(samples), -1, 1)


def _resample(mono: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Resample (T,) float32 without delay; works for any pair of rates."""
    if rate_hz == new_rate_hz:
        return mono
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=new_rate_hz)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(mono[None]), format="fltp", layout="mono"
    )
    frame.sample_rate = rate_hz
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray()[0] for frame in frames)])
