"""What all media share: unusable files are refused by name, files are written whole, memory."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import soundfile
from media_files import (
    RATE_HZ,
    encode_audio,
    encode_video,
    grey_frames,
    hour_of_sound,
    hour_of_video,
    sine,
)

from nextgpt.media import Audio, Image, Medium, Video, load_medium

# Bad input of every kind


def whole_files(folder: Path) -> list[Path]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    clip = np.random.default_rng(0).integers(0, 256, (48, 64, 64, 3)).astype(np.uint8)
    PIL.Image.fromarray(noise).save(folder / "a.jpg")
    soundfile.write(folder / "a.flac", sine(20.0, 8000), 8000)
    soundfile.write(folder / "a.mp3", sine(20.0, 44100), 44100)
    return [
        *(folder / f"a.{kind}" for kind in ("jpg", "flac", "mp3")),
        Image(noise).save(folder / "a.png"),
        Audio(sine(4.0, 8000), 8000).save(folder / "a.wav"),
        Video(clip, 8.0).save(folder / "index-in-front.mp4"),
        encode_video(folder / "index-at-the-end.mp4", clip),
        encode_audio(folder / "a.m4a", sine(20.0, 44100)[None], 44100, "aac"),
    ]


def test_truncated_files_are_refused_by_name(tmp_path: Path) -> None:
    for path in whole_files(tmp_path):
        load_medium(path)
        cut = tmp_path / f"cut{path.suffix}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        with pytest.raises(ValueError, match=rf"cut\{path.suffix}: "):
            load_medium(cut)


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
    for path in whole_files(tmp_path):
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


def test_media_are_read_from_memory() -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (5, 4), "green").save(buffer, format="WEBP")
    assert Image(buffer.getvalue()).size == (5, 4)
    with pytest.raises(ValueError, match="image data: is empty"):
        _ = Image(b"").pil


MEMORY_PROGRAM = """
import re, sys
from pathlib import Path
from nextgpt.media import Audio, load_medium
def peak_after_use(path):
    medium = load_medium(path)
    medium.content_hash()
    arguments = (2.56, 16000) if isinstance(medium, Audio) else (8, 2.0)
    medium.windows(3, *arguments)
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
short, *files = sys.argv[1:]
before = peak_after_use(short)
for path in files:
    print(1024 * (peak_after_use(path) - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="where Linux tells the peak")
def test_an_hour_takes_hardly_more_memory_than_a_second(tmp_path: Path) -> None:
    # In a process of its own: the peak of this one is that of whichever test took most.
    files = [
        encode_video(tmp_path / "short.mkv", grey_frames(2)),
        *(hour_of_sound(tmp_path / f"hour.{kind}") for kind in ("wav", "flac", "mp3")),
        *(hour_of_video(tmp_path / f"hour.{kind}") for kind in ("mp4", "ts", "mkv")),
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM, *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
    )
    growth_bytes = [int(line) for line in done.stdout.split()]
    assert len(growth_bytes) == 6
    # Measured worst case 9 MB. Decoded, a sound would take 115 MB and a video 44 MB.
    assert max(growth_bytes) < 20e6
