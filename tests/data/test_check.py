"""`nextgpt data check`: what is wrong is named with file and line, what is right is counted."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_chain import medium

from nextgpt.cli import main
from nextgpt.data.check import Check
from nextgpt.data.rows import Row, write_rows
from nextgpt.modality import MODALITIES


def row(number: int, *parts: Any, answer: Any = "Yes.") -> Row:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    asked = {"role": "user", "content": content}
    return Row(f"{number}", [asked, {"role": "assistant", "content": answer}], source="test")


def shown(path: str, modality: str = "image", **more: Any) -> dict[str, Any]:
    return {"type": modality, "path": path, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good file of every modality, and rows that show them."""
    names = {}
    for modality, facts in MODALITIES.items():
        names[modality] = f"media/the {modality} ü{facts.file_suffix}"
        medium(modality).save(tmp_path / names[modality])
    np.save(tmp_path / "good.npy", np.zeros((77, 768), np.float16))
    rows = [row(i, f"What is {m}?", shown(name, m)) for i, (m, name) in enumerate(names.items())]
    asked = shown(names["image"], caption="a dog", conditioning="good.npy")
    rows.append(row(9, "Draw a dog", answer=[asked]))
    write_rows(tmp_path / "manifest.jsonl", rows)
    return tmp_path


def faults(folder: Path, *more: Row | dict[str, Any] | str, media: bool = True) -> list[str]:
    """What is found in the good rows and these."""
    path = folder / "manifest.jsonl"
    data = [each.to_json() if isinstance(each, Row) else each for each in more]
    lines = [each if isinstance(each, str) else json.dumps(each) for each in data]
    path.write_text(path.read_text() + "".join(line + "\n" for line in lines))
    return list(Check(path, media).faults())


def test_good_rows_have_no_faults_and_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not faults(folder)
    assert main(["data", "check", str(folder / "manifest.jsonl")]) == 0
    counts = {
        name: int(number)
        for number, name in (
            line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
        )
    }
    assert counts == {
        "rows": 4,
        "messages": 8,
        "source test": 4,
        "split train": 4,
        "image": 2,
        "audio": 1,
        "video": 1,
        "media opened": 3,
        "faults": 0,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["Look", shown("gone.png")], "gone.png: no such file"),
        ([shown("media")], "media: no such file"),
        ([shown("empty.png")], "empty.png: is empty"),
        ([shown("text.jpg")], "text.jpg: "),
        ([shown("cut.png")], "cut.png: "),
        ([shown("dog.mp4", "video")], "dog.mp4: holds image, not video"),
        ([shown("dog.ogg", "audio")], "dog.ogg: holds image, not audio"),
        ([shown("dog.wav")], "dog.wav: is called like audio, not image"),
        ([shown("copy.png")], "copy.png: the same content as media/the image ü.png in line 1"),
        ([shown("link.png")], "path: 'link.png' is outside"),
        (["What is <image>?"], "<image> in the text of the user"),
        (["What is <Audio>rain</Audio>?"], "<Audio> in the text of the user"),
        ([shown("media/the image ü.png", conditioning="gone.npy")], "gone.npy: no such file"),
        ([shown("media/the image ü.png", conditioning="shape.npy")],
         r"shape.npy: holds (77, 512) float32; the conditioning of image is float"),
        ([shown("media/the image ü.png", conditioning="whole.npy")],
         "whole.npy: holds (77, 768) int64"),
        ([shown("media/the image ü.png", conditioning="cut.npy")], "cut.npy: is no whole .npy"),
        ([shown("media/the image ü.png", conditioning="code.npy")], "code.npy: is no whole .npy"),
        ([shown("media/the image ü.png", conditioning="text.jpg")], "text.jpg: is no whole .npy"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(folder: Path, content: list[Any], message: str) -> None:
    medium("image").save(folder / "dog.png")
    data = medium("image").png_bytes()
    files = {
        "empty.png": b"",
        "text.jpg": b"no picture " * 20,
        "cut.png": data[: len(data) // 2],
        "dog.mp4": data[:-1] + b"x",
        "dog.ogg": data[:-2] + b"xx",
        "copy.png": (folder / "media" / "the image ü.png").read_bytes(),
    }
    for name, content_bytes in files.items():
        (folder / name).write_bytes(content_bytes)
    (folder / "link.png").symlink_to(Path(__file__))
    for name, array in {
        "shape.npy": np.zeros((77, 512), np.float32),
        "whole.npy": np.zeros((77, 768), int),
        "code.npy": np.array([print]),
    }.items():
        np.save(folder / name, array)
    whole = (folder / "good.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[: len(whole) // 2])
    (found,) = faults(folder, row(5, *content))
    assert found.startswith(f"{folder / 'manifest.jsonl'}, line 5: ")
    assert message in found


def test_media_are_opened_once_and_only_on_request(folder: Path) -> None:
    assert not faults(folder, row(5, "a", shown("gone.png")), media=False)
    again = [row(number, str(number), shown("gone.png")) for number in range(6, 9)]
    assert len(faults(folder, *again)) == 1


def test_a_picture_the_assistant_owes_needs_a_caption(folder: Path) -> None:
    (found,) = faults(folder, row(5, "Draw", answer=[shown("media/x.png")]), media=False)
    assert "line 5: media/x.png: the assistant's image has no caption" in found


def test_a_conversation_without_an_answer_teaches_nothing(folder: Path) -> None:
    (found,) = faults(folder, Row("5", [{"role": "user", "content": "Hi"}]), media=False)
    assert "line 5: the assistant says nothing" in found


def test_the_same_conversation_twice_is_named_with_both_lines(folder: Path) -> None:
    more = [row(5, "One"), row(6, "Two"), row(7, "One"), row(8, "One", "")]
    (found,) = faults(folder, *more, media=False)
    assert found.endswith("line 7: the same conversation as in line 5")


def test_faulty_lines_do_not_hide_later_ones(folder: Path) -> None:
    found = faults(folder, "{", {"id": "5"}, row(6, shown("gone.png")))
    assert [line.split(": ")[0].rsplit(" ")[-1] for line in found] == ["5", "6", "7"]


def test_the_exit_code_and_the_last_line_tell_of_faults(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults(folder, *["{"] * 5)
    arguments = ["data", "check", str(folder / "manifest.jsonl"), "--no-media", "--limit", "2"]
    assert main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "line 5: not JSON" in lines[0]
    assert "line 6: not JSON" in lines[1]
    assert lines[2] == "... and 3 more"
    assert lines[-1].split() == ["5", "faults"]


def test_a_manifest_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path / "gone.jsonl")]) == 1
    assert "gone.jsonl: no such file" in capsys.readouterr().err


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    peaks = []
    for num_rows in (500, 5000):
        write_rows(
            tmp_path / "m.jsonl",
            (row(n, f"Question {n}?", shown(f"{n}.png")) for n in range(num_rows)),
        )
        tracemalloc.start()
        assert not list(Check(tmp_path / "m.jsonl", media=False).faults())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4500 * 64  # measured 34 bytes a row, at the end
