"""Videos: any common file is read, by seeking where it is long; unusable ones are refused."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import (
    damage,
    encode_audio,
    encode_video,
    grey_frames,
    sine,
    video_without_frames,
)

from nextgpt.media import Audio, Video, load_medium
from nextgpt.media.video import MAX_FRAME_SIDE, encode_mp4


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx")],
)
def test_common_videos_are_read_frame_by_frame(tmp_path: Path, suffix: str, codec: str) -> None:
    frames = grey_frames(16)
    video = load_medium(encode_video(tmp_path / f"clip{suffix}", frames, codec=codec))
    assert isinstance(video, Video)
    assert video.num_frames == 16
    assert video.duration_s == pytest.approx(2.0, abs=0.02)
    assert video.frames_per_second == pytest.approx(8.0)
    every = video.frames(16)
    assert every.shape == frames.shape
    # Lossy: the greys are 14 apart (measured worst case: 3).
    assert np.abs(every.astype(int) - frames).mean(axis=(1, 2, 3)).max() < 6
    assert np.abs(video.frames(4).astype(int) - frames[2::4]).mean(axis=(1, 2, 3)).max() < 6


LOSS = 4.0
"""What compression may change of a frame's grey; measured worst case 3 (mpeg4, others 2)."""


def grey_error(frames: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference between the mean greys of two rows of frames."""
    return float(np.abs(frames.mean((-3, -2, -1)) - expected.mean((-3, -2, -1))).max())


MINUTE = np.ascontiguousarray(grey_frames(240, 32, 32)[np.arange(240) * 53 % 240])
"""A frame a quarter of a second; the greys of neighbours are at least 47 apart."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("keys.mp4", {"g": "20"}),
        ("one-key.mp4", {"g": "1000", "sc_threshold": "0"}),
        ("keys.ts", {"g": "20"}),
        ("one-key.ts", {"g": "1000", "sc_threshold": "0"}),
        ("keys.flv", {"g": "20"}),
        ("keys.mkv", {"g": "20"}),
    ],
)
def test_a_long_video_is_read_with_and_without_an_index(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    video = load_medium(encode_video(tmp_path / name, MINUTE, rate=4, **options))
    assert isinstance(video, Video)
    for num_frames in (6, 2, 60):
        expected = MINUTE[((np.arange(num_frames) + 0.5) * 240 / num_frames).astype(int)]
        assert grey_error(video.frames(num_frames), expected) < LOSS


def test_a_video_without_its_table_of_key_frames_is_read(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", MINUTE, rate=4)
    damage(path, b"stss", 0, b"free")
    assert grey_error(Video(path).check().frames(6), MINUTE[20::40]) < LOSS


@pytest.mark.parametrize("from_file", [True, False])
def test_windows_reach_from_the_start_to_the_end(tmp_path: Path, from_file: bool) -> None:
    source = encode_video(tmp_path / "clip.mp4", MINUTE, rate=4) if from_file else MINUTE
    video = Video(source, None if from_file else 4.0)
    windows = video.windows(num_windows=3, num_frames=4, duration_s=4.0)
    assert windows.shape == (3, 4, 32, 32, 3) and windows.dtype == np.uint8
    # 16 frames a window, and of them the middles of four equal spans.
    expected = MINUTE[np.array([[0], [112], [224]]) + np.array([2, 6, 10, 14])]
    assert grey_error(windows, expected) < LOSS


def test_windows_may_overlap(tmp_path: Path) -> None:
    clip = MINUTE[::20]  # 3 s
    path = encode_video(tmp_path / "clip.mp4", clip, rate=4)
    windows = Video(path).windows(3, 8, 2.0)
    assert grey_error(windows, np.stack([clip[0:8], clip[2:10], clip[4:12]])) < LOSS


@pytest.mark.parametrize("duration_s", [2.0, 5.0])
def test_a_video_no_longer_than_a_window_gives_equal_windows_of_the_whole(
    tmp_path: Path, duration_s: float
) -> None:
    video = Video(encode_video(tmp_path / "clip.mp4", MINUTE[::30], rate=4))  # 2 s
    windows = video.windows(3, 4, duration_s)
    assert (windows == video.frames(4)).all()


def test_a_long_video_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    encode_mp4(path, iter(np.repeat(MINUTE, 4, axis=0)), 4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(ValueError, match=r"cut\.mp4: truncated, ends at \d+\.\d s of 240\.0 s"):
        load_medium(path)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm", ".ts"])
def test_one_frame_is_a_video_and_repeats(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == ".webm" else "mpeg4"
    video = load_medium(encode_video(tmp_path / f"one{suffix}", grey_frames(1), codec=codec))
    assert isinstance(video, Video)
    windows = video.windows(3, 8, 2.0)
    assert windows.shape == (3, 8, 48, 64, 3)
    assert (windows == windows[0, 0]).all()


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_without_frames_is_refused(tmp_path: Path, suffix: str) -> None:
    path = video_without_frames(tmp_path / f"none{suffix}")
    for read in (load_medium, lambda p: Video(p).frames(1)):
        with pytest.raises(ValueError, match=rf"none\{suffix}: [^\n;]*; attach [^\n;]*$"):
            read(path)


@pytest.mark.parametrize(
    ("atom", "offset", "value"),
    [
        (b"moov", 0, b"lost"),
        (b"stco", 0, b"lost"),  # where the frames are
        (b"stco", 12, b"\x7f\xff\xff\xff"),
        (b"stsz", 12, b"\x7f\xff\xff\xff"),  # how many bytes each has
        (b"stsz", 16, bytes(40)),
    ],
)
def test_a_video_with_a_broken_index_is_refused(
    tmp_path: Path, atom: bytes, offset: int, value: bytes
) -> None:
    path = encode_video(tmp_path / "clip.mp4", grey_frames(16))
    damage(path, atom, offset, value)
    with pytest.raises(ValueError, match=r"clip\.mp4: [^\n;]*; attach a whole [^\n;]*$"):
        load_medium(path)


def test_an_avi_without_its_index_is_read(tmp_path: Path) -> None:
    frames = grey_frames(16)
    path = encode_video(tmp_path / "clip.avi", frames, codec="mpeg4")
    damage(path, b"idx1", 0, b"JUNK")
    assert grey_error(Video(path).check().frames(16), frames) < LOSS


def test_frames_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    frames = grey_frames(16)
    path = encode_video(tmp_path / "clip.avi", frames, codec="mjpeg", strict="unofficial")
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xd8\xff", at)]
    size = starts[3] - starts[2] - 8  # the header of the next chunk lies between
    path.write_bytes(data[: starts[2]] + bytes(size) + data[starts[2] + size :])
    read = Video(path).check().frames(16)
    kept = [index for index in range(16) if index != 2]
    assert grey_error(read[kept], frames[kept]) < LOSS
    assert grey_error(read[2], frames[1]) < LOSS


def test_frames_that_change_their_size_are_read_at_the_first(tmp_path: Path) -> None:
    small, wide = grey_frames(8, 32, 32), grey_frames(8, 48, 96)
    parts = [encode_video(tmp_path / f"{len(f[0])}.ts", f) for f in (small, wide)]
    path = tmp_path / "joined.mkv"
    with av.open(str(path), "w") as joined:
        stream = None
        for index, part in enumerate(parts):
            with av.open(str(part)) as container:
                source = container.streams.video[0]
                stream = stream or joined.add_stream_from_template(source)
                for packet in container.demux(source):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + 90_000 * index, None
                        packet.stream = stream
                        joined.mux(packet)
    video = load_medium(path)
    assert isinstance(video, Video)
    assert video.frames(16).shape == (16, 32, 32, 3)
    assert Video(video.save(tmp_path / "saved.mp4")).frames(2).shape == (2, 32, 32, 3)


def test_a_container_with_sound_alone_is_a_sound(tmp_path: Path) -> None:
    path = encode_audio(tmp_path / "song.mp4", sine(1.0, 44100)[None], 44100, "aac")
    assert isinstance(load_medium(path), Audio)
    with pytest.raises(ValueError, match=r"song\.mp4: holds no moving pictures; only sound"):
        Video(path).frames(1)


def test_4k_at_60_frames_a_second_is_read_smaller(tmp_path: Path) -> None:
    frames = grey_frames(12, 2160, 3840)
    video = load_medium(encode_video(tmp_path / "4k.mp4", frames, rate=60, preset="ultrafast"))
    assert isinstance(video, Video)
    assert video.frames_per_second == 60
    windows = video.windows(3, 4, 2.0)
    assert windows.shape == (3, 4, MAX_FRAME_SIDE * 9 // 16, MAX_FRAME_SIDE, 3)
    assert grey_error(windows[0], frames[1::3]) < LOSS


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (3, 33, 65, 3), (2, 64, 64, 3)])
def test_videos_of_any_size_are_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    frames = np.full(shape, 200, np.uint8)
    again = Video(Video(frames, 4.0).save(tmp_path / "clip.mp4"))
    assert again.num_frames == shape[0]
    assert np.abs(again.frames(shape[0]).astype(int) - 200).max() <= 4


def test_a_web_video_is_written_as_mp4(tmp_path: Path) -> None:
    source = Video(encode_video(tmp_path / "clip.webm", grey_frames(8), codec="libvpx"))
    assert Video(source.save(tmp_path / "clip.mp4")).num_frames == 8


def test_phone_videos_are_turned_upright(tmp_path: Path) -> None:
    frames = grey_frames(4, 32, 64)
    frames[:, :, :32] = 255  # the left half is white
    path = tmp_path / "flat.mp4"
    encode_mp4(path, iter(frames), 4.0)
    # The rotation of a telephone held upright: the matrix in the track header, behind version and
    # flags, times and length, layer to volume.
    quarter_turn = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    damage(path, b"tkhd", 4 + 4 + 20 + 16, quarter_turn)
    upright = Video(path).frames(1)[0]
    assert upright.shape == (64, 32, 3)
