"""Media: usable files are read, unusable ones refused by name, and files are written whole."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import soundfile

from nextgpt.media import Audio, Image, Medium, Video, load_medium
from nextgpt.media.image import MAX_PIXELS
from nextgpt.media.video import MAX_FRAME_SIDE, encode_mp4

RATE_HZ = 8000


def png_header(width: int, height: int) -> bytes:
    """A png file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def sine(duration_s: float, rate_hz: int, frequency_hz: float = 440.0) -> np.ndarray:
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def grey_frames(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame number i is an even grey of its own."""
    greys = np.linspace(20, 235, num_frames).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (num_frames, height, width, 3)).copy()


def encode_audio(
    path: Path, samples: np.ndarray, rate_hz: int, codec: str, cover: bool = False
) -> Path:
    """Write (channels, T) float samples with PyAV."""
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=layout
        )
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def encode_video(
    path: Path, frames: np.ndarray, rate: int = 8, codec: str = "libx264", **options: str
) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


# Pictures


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]
)
def test_every_picture_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    array = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    if mode == "I;16":
        picture = PIL.Image.fromarray(array * 100)
    else:
        picture = PIL.Image.fromarray((array % 256).astype(np.uint8)).convert("RGB").convert(mode)
    path = tmp_path / "picture.tiff"
    (picture if mode != "YCbCr" else picture.convert("RGB")).save(path)
    image = load_medium(path)
    assert isinstance(image, Image)
    assert image.pil.mode == "RGB"
    assert image.size == (30, 20)


def test_sixteen_bit_greys_keep_their_range(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(Image(tmp_path / "deep.png").pil)[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert Image(tmp_path / "clear.png").pil.getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    PIL.Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert Image(tmp_path / "turned.jpg").size == (20, 40)


def test_the_first_frame_of_an_animation_is_the_picture(tmp_path: Path) -> None:
    first, second = PIL.Image.new("RGB", (8, 8), "red"), PIL.Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    image = load_medium(tmp_path / "moving.gif")
    assert isinstance(image, Image)
    assert image.pil.getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel_is_a_picture() -> None:
    assert Image(np.zeros((1, 1, 3), np.uint8)).size == (1, 1)


def test_huge_pictures_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(png_header(20_000, 20_000))
    pillow_limit = PIL.Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"huge\.png: 20000x20000 pixels .* limit is 64"):
        load_medium(tmp_path / "huge.png")
    assert PIL.Image.MAX_IMAGE_PIXELS == pillow_limit
    assert 20_000**2 > MAX_PIXELS


@pytest.mark.parametrize(
    "array", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))]
)
def test_arrays_that_are_no_picture_are_refused_with_their_shape(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(\d, 4"):
        Image(array)


# Sounds


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_common_sounds_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, sine(1.5, 44100), 44100)
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.sample_rate_hz == 44100
    assert audio.duration_s == pytest.approx(1.5, abs=0.1)
    windows = audio.windows(3, 0.5, 16000)
    assert windows.shape == (3, 8000)
    assert windows.dtype == np.float32
    assert np.abs(windows[1]).max() == pytest.approx(0.5, abs=0.05)
    # A section reached by seeking holds the samples that reading from the start gives.
    section, start = audio._section(50_000, 5000), 50_000
    assert np.allclose(section, audio.waveform[:, start : start + 5000], atol=1e-4)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "subtype"),
    [(8000, 1, "PCM_U8"), (192000, 2, "PCM_24"), (48000, 6, "FLOAT")],
)
def test_any_rate_depth_and_channel_count_is_read(
    tmp_path: Path, rate_hz: int, channels: int, subtype: str
) -> None:
    samples = np.repeat(sine(0.5, rate_hz)[:, None], channels, axis=1)
    soundfile.write(tmp_path / "sound.wav", samples, rate_hz, subtype=subtype)
    audio = load_medium(tmp_path / "sound.wav")
    assert isinstance(audio, Audio)
    assert audio.waveform.shape == (channels, rate_hz // 2)
    assert audio.windows(2, 1.0, 16000).shape == (2, 16000)


def test_m4a_is_read_from_any_place(tmp_path: Path) -> None:
    low, high = sine(6.0, 44100, 300.0), sine(6.0, 44100, 1200.0)
    path = encode_audio(tmp_path / "two.m4a", np.concatenate([low, high])[None], 44100, "aac")
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.duration_s == pytest.approx(12.0, abs=0.1)
    assert audio.waveform.shape[1] == pytest.approx(12 * 44100, rel=0.01)
    peaks_hz = [np.abs(np.fft.rfft(window)).argmax() for window in audio.windows(2, 1.0, 16000)]
    assert peaks_hz == [300, 1200]
    # A section reached by seeking holds what reading from the start gives (measured: 3e-7).
    assert np.allclose(audio._section(300_000, 5000), audio.waveform[:, 300_000:305_000], atol=1e-5)


def test_resampled_windows_are_not_delayed() -> None:
    window = Audio(sine(2.0, 44100), 44100).windows(1, 1.0, 16000)[0]
    expected = sine(1.0, 16000)
    assert np.abs(window - expected)[200:-200].max() < 1e-4  # measured: 1.1e-5


def test_windows_reach_from_the_start_to_the_end() -> None:
    ramp = Audio(np.linspace(0, 1, 10 * RATE_HZ, dtype=np.float32), RATE_HZ)
    windows = ramp.windows(3, 1.0, RATE_HZ)
    assert np.allclose(windows[:, 0], [0.0, 0.45, 0.9], atol=1e-3)
    assert windows[-1, -1] == pytest.approx(1.0, abs=1e-3)


def test_windows_of_an_hour_read_three_short_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE_HZ, np.float32))
    read: list[int] = []
    original = Audio._blocks

    def counted(audio: Audio, start: int):  # noqa: ANN202
        for block in original(audio, start):
            read.append(block.shape[1])
            yield block

    monkeypatch.setattr(Audio, "_blocks", counted)
    assert Audio(path).windows(3, 2.0, 16000).shape == (3, 32000)
    assert sum(read) <= 3 * 3 * RATE_HZ


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ, np.float32), np.array([0.25], np.float32)])
def test_silence_and_a_single_sample_are_sounds(tmp_path: Path, samples: np.ndarray) -> None:
    path = Audio(samples, RATE_HZ).save(tmp_path / "sound.wav")
    audio = load_medium(path)
    assert isinstance(audio, Audio)
    assert audio.waveform.shape == (1, len(samples))
    assert np.isfinite(audio.windows(3, 0.5, 16000)).all()


def test_a_sound_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE_HZ)
    with pytest.raises(ValueError, match=r"none\.wav: holds no samples"):
        load_medium(tmp_path / "none.wav")


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (np.zeros(4, np.int16), 8000),
        (np.zeros(0), 8000),
        (np.zeros(4), None),
        (np.array([np.nan]), 8000),
    ],
)
def test_arrays_that_are_no_sound_are_refused(samples: np.ndarray, rate_hz: int | None) -> None:
    with pytest.raises(ValueError, match="audio data: "):
        Audio(samples, rate_hz)


# Videos


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


def test_a_long_video_is_read_by_seeking(tmp_path: Path) -> None:
    frames = grey_frames(240, 32, 32)
    video = Video(encode_video(tmp_path / "long.mp4", frames, rate=4))  # one minute
    expected = frames[(np.arange(6) * 40) + 20]
    assert np.abs(video.frames(6).astype(int) - expected).mean(axis=(1, 2, 3)).max() < 3


def test_one_frame_is_a_video_and_repeats(tmp_path: Path) -> None:
    path = Video(grey_frames(1), 4.0).save(tmp_path / "one.mp4")
    video = load_medium(path)
    assert isinstance(video, Video)
    assert video.frames(8).shape == (8, 48, 64, 3)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 16
        container.start_encoding()
    with pytest.raises(ValueError, match=r"none\.avi: holds no frames"):
        load_medium(path)


def test_a_container_with_sound_alone_is_a_sound(tmp_path: Path) -> None:
    path = encode_audio(tmp_path / "song.mp4", sine(1.0, 44100)[None], 44100, "aac")
    assert isinstance(load_medium(path), Audio)
    with pytest.raises(ValueError, match=r"song\.mp4: holds no moving pictures; only sound"):
        Video(path).frames(1)


def test_large_frames_are_read_smaller(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "4k.mp4", grey_frames(2, 2160, 3840))
    assert Video(path).frames(2).shape == (2, MAX_FRAME_SIDE * 9 // 16, MAX_FRAME_SIDE, 3)


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (3, 33, 65, 3), (2, 64, 64, 3)])
def test_videos_of_any_size_are_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    frames = np.full(shape, 200, np.uint8)
    again = Video(Video(frames, 4.0).save(tmp_path / "clip.mp4"))
    assert again.num_frames == shape[0]
    assert np.abs(again.frames(shape[0]).astype(int) - 200).max() <= 4


def test_a_web_video_is_written_as_mp4(tmp_path: Path) -> None:
    source = Video(encode_video(tmp_path / "clip.webm", grey_frames(8), codec="libvpx"))
    assert Video(source.save(tmp_path / "clip.mp4")).num_frames == 8


# Bad input of every kind


def whole_files(folder: Path) -> dict[str, Path]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    clip = np.random.default_rng(0).integers(0, 256, (48, 64, 64, 3)).astype(np.uint8)
    files = {
        "png": Image(noise).save(folder / "a.png"),
        "wav": Audio(sine(4.0, 8000), 8000).save(folder / "a.wav"),
    }
    PIL.Image.fromarray(noise).save(folder / "a.jpg")
    soundfile.write(folder / "a.flac", sine(20.0, 8000), 8000)
    soundfile.write(folder / "a.mp3", sine(20.0, 44100), 44100)
    files |= {kind: folder / f"a.{kind}" for kind in ("jpg", "flac", "mp3")}
    files["mp4 with its index in front"] = Video(clip, 8.0).save(folder / "front.mp4")
    files["mp4 with its index at the end"] = encode_video(folder / "end.mp4", clip)
    files["m4a"] = encode_audio(folder / "a.m4a", sine(20.0, 44100)[None], 44100, "aac")
    return files


def test_truncated_files_are_refused_by_name(tmp_path: Path) -> None:
    for kind, path in whole_files(tmp_path).items():
        load_medium(path)
        cut = tmp_path / f"cut{path.suffix}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        with pytest.raises(ValueError, match=rf"cut\{path.suffix}: "):
            print(kind, load_medium(cut))


@pytest.mark.parametrize("suffix", [".png", ".wav", ".mp4", ".jpg", ".mp3", ".raw", ""])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is text\n" * 200,
        b"\x00" * 5000,
        np.random.default_rng(3).bytes(20_000),
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["empty", "text", "zeros", "noise", "beginning"],
)
def test_files_that_are_no_medium_are_refused_by_name(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    for read in (
        load_medium,
        lambda p: Image(p).pil,
        lambda p: Audio(p).waveform,
        lambda p: Video(p).frames(2),
    ):
        with pytest.raises(ValueError, match=r"file[^ ]*: [^\n]*; [^\n]*$"):
            read(path)


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    for path in whole_files(tmp_path).values():
        kind = type(load_medium(path))
        for suffix in (".jpg", ".txt", ".raw", ".mp3", ""):
            other = tmp_path / f"other{suffix}"
            other.write_bytes(path.read_bytes())
            assert type(load_medium(other)) is kind


def test_a_song_with_a_cover_is_a_sound(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        song = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg")
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture.reformat(format="yuvj420p")), *cover.encode()])
        frame = av.AudioFrame.from_ndarray(sine(1.0, 44100)[None], format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*song.encode(frame), *song.encode()])
    assert isinstance(load_medium(path), Audio)


def test_missing_files_and_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png: no such file"):
        load_medium(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="is not a file"):
        load_medium(tmp_path)


def test_playlists_do_not_open_other_files(tmp_path: Path) -> None:
    encode_video(tmp_path / "clip.mp4", grey_frames(4))
    for text in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n",
        "ffconcat version 1.0\nfile clip.mp4\n",
    ):
        (tmp_path / "list.m3u8").write_text(text)
        with pytest.raises(ValueError, match="list.m3u8"):
            load_medium(tmp_path / "list.m3u8")


# Every medium


def media() -> list[Medium]:
    return [
        Image(np.full((8, 8, 3), 7, np.uint8), caption="grey", seed=3),
        Audio(sine(0.5, RATE_HZ), RATE_HZ, caption="tone", seed=4),
        Video(grey_frames(3), 4.0, caption="fade", seed=5),
    ]


@pytest.mark.parametrize("medium", media(), ids=lambda medium: str(medium.modality))
def test_a_saved_medium_reads_back_from_path_and_bytes(tmp_path: Path, medium: Medium) -> None:
    suffix = {"image": ".png", "audio": ".wav", "video": ".mp4"}[medium.modality]
    path = medium.save(tmp_path / "new" / f"medium{suffix}")
    again = load_medium(path)
    assert type(again) is type(medium)
    assert again.content_hash() == type(medium)(path.read_bytes()).content_hash()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(ValueError, match=rf"medium\.xyz: .*medium\{suffix}"):
        medium.save(tmp_path / "medium.xyz")


def test_the_content_hash_changes_with_the_content() -> None:
    hashes = {medium.content_hash() for medium in media()}
    hashes.add(Audio(sine(0.5, RATE_HZ), 2 * RATE_HZ).content_hash())
    hashes.add(Image(np.full((8, 8, 3), 8, np.uint8)).content_hash())
    assert len(hashes) == 5
    assert media()[0].content_hash() in hashes


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = Audio(sine(1.0, RATE_HZ), RATE_HZ).save(tmp_path / "sound.wav")
    before = path.read_bytes()
    (tmp_path / "cut.flac").write_bytes(b"fLaC")
    with pytest.raises(ValueError, match=r"cut\.flac"):
        Audio(tmp_path / "cut.flac").save(path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.flac", "sound.wav"]


def test_phone_videos_are_turned_upright(tmp_path: Path, turned: Callable[[Path], Path]) -> None:
    frames = grey_frames(4, 32, 64)
    frames[:, :, :32] = 255  # the left half is white
    path = tmp_path / "flat.mp4"
    encode_mp4(path, iter(frames), 4.0)
    upright = Video(turned(path)).frames(1)[0]
    assert upright.shape == (64, 32, 3)


@pytest.fixture
def turned() -> Callable[[Path], Path]:
    """Write the rotation of a telephone held upright into the track header of an mp4 file."""

    def turn(path: Path) -> Path:
        data = bytearray(path.read_bytes())
        header = data.index(b"tkhd") + 4
        matrix = header + 4 + 20 + 16  # version and flags, times and length, layer to volume
        quarter_turn = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
        data[matrix : matrix + 36] = quarter_turn
        turned_path = path.with_name("turned.mp4")
        turned_path.write_bytes(data)
        return turned_path

    return turn


def test_media_are_read_from_memory() -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (5, 4), "green").save(buffer, format="WEBP")
    assert Image(buffer.getvalue()).size == (5, 4)
    with pytest.raises(ValueError, match="image data: is empty"):
        _ = Image(b"").pil
