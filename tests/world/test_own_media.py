"""A folder of captioned media becomes a part of a world; its faults are told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from dialogue_items import picture_items

from nextgpt.cli import main
from nextgpt.data.conversations import medium_of
from nextgpt.data.manifest import read_manifest, write_manifest
from nextgpt.media import Audio, Image, Video
from nextgpt.world.own_media import OWN_MANIFEST, add_media


@pytest.fixture
def world(tmp_path: Path) -> Path:
    folder = tmp_path / "world"
    folder.mkdir()
    items = picture_items()[:3]
    for item in items:
        Image(np.zeros((8, 8, 3), np.uint8)).save(folder / item.path)
    write_manifest(folder / "manifest.jsonl", items)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three media, none in the format that worlds keep them in."""
    found = tmp_path / "mine"
    found.mkdir()
    PIL.Image.new("RGB", (40, 30), "red").save(found / "A_red-carpet_01.jpg")
    Audio(np.zeros(800, np.float32), sample_rate_hz=8000).save(found / "silence.wav")
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    Video(frames, frames_per_second=4).save(found / "clip.mp4")
    (found / "clip.txt").write_text("Nothing that\n moves.\n")
    return found


def test_captions_are_file_names_or_the_text_beside(folder: Path, world: Path) -> None:
    items = add_media(folder, world.parent / "out", world)
    captions = {item.modality: item.caption for item in items}
    assert captions == {"image": "a red carpet", "audio": "silence", "video": "nothing that moves"}
    assert {item.split for item in items} == {"train"}


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_captions_are_listed_in_a_file(folder: Path, world: Path, name: str) -> None:
    if name.endswith("csv"):
        (folder / name).write_text("file_name,text\nA_red-carpet_01.jpg,A carpet.\n")
    else:
        line = {"file_name": "A_red-carpet_01.jpg", "text": "A carpet."}
        (folder / name).write_text(json.dumps(line) + "\n")
    assert [item.caption for item in add_media(folder, world.parent / "out", world)] == ["a carpet"]


def test_the_new_world_holds_the_old_one_and_all_of_it_opens(folder: Path, world: Path) -> None:
    out = world.parent / "out"
    for _ in range(2):
        added = add_media(folder, out, world)
    items = read_manifest(out / "manifest.jsonl")
    assert len(items) == 3 + 3
    assert items[-3:] == added == read_manifest(out / OWN_MANIFEST)
    for item in items:
        medium_of(item, out / "manifest.jsonl").check()


def test_the_command_says_what_was_added(
    folder: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = world.parent / "out"
    words = ["world", "add", "--folder", str(folder), "--out", str(out), "--world", str(world)]
    assert main(words) == 0
    assert "1 image, 1 audio, 1 video more" in capsys.readouterr().out
    assert main(["world", "stats", "--world", str(out)]) == 0


BROKEN = {
    "listed but missing": ("metadata.csv", "file_name,text\nlost.jpg,a cat\n", "lost.jpg"),
    "outside the folder": ("metadata.csv", "file_name,text\n../x.jpg,a cat\n", "../x.jpg"),
    "no text": ("metadata.csv", "file_name,text\nclip.mp4,\n", "entry 1"),
    "another column": ("metadata.csv", "name,caption\nclip.mp4,a cat\n", "file_name and a text"),
    "no JSON": ("metadata.jsonl", "{\n", "metadata.jsonl: cannot be read"),
    "empty caption": ("clip.txt", " \n", "caption is empty"),
    "no medium": ("notes.md", "# mine\n", "notes.md"),
}


@pytest.mark.parametrize(("name", "text", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_named_and_nothing_is_written(
    folder: Path, world: Path, name: str, text: str, message: str
) -> None:
    (folder / name).write_text(text)
    out = world.parent / "out"
    with pytest.raises(ValueError, match=message) as raised:
        add_media(folder, out, world)
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_a_folder_without_media_and_none_at_all_are_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in (("empty", "no media here"), ("lost", "no such folder")):
        with pytest.raises(ValueError, match=message):
            add_media(tmp_path / name, tmp_path / "out", world)
