"""What a measurement leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextgpt.evaluation.metrics import Row
from nextgpt.evaluation.report import (
    SHEETS,
    Sample,
    contact_sheet,
    film_strip,
    markdown,
    spectrogram,
    write_report,
)

ROWS = [
    Row.proportion("media", [True] * 19 + [False], 0.95),
    Row.proportion("concept", [True, False], 0.7, note="says the judge"),
    Row("seconds", 2.345, "<", 8.0, 1),
]


def sample(asked: str, seen: str) -> Sample:
    is_right = asked.startswith(seen)
    return Sample(Image.new("RGB", (64, 64), "blue"), asked, seen, "Here you are.", is_right)


def test_the_table_says_counts_targets_and_what_was_missed() -> None:
    lines = markdown(ROWS).splitlines()
    assert lines[2].startswith("| media | 95.0% (19 of 20; 76% to 99%) | at least 95% | reached")
    assert "says the judge" in lines[3]
    assert "**missed**" in lines[3]
    assert lines[4] == "| seconds | 2.35 | less than 8 | reached |"


def test_numbers_and_facts_are_written_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = {"pictures": [sample("dog, blue", "dog")], "sounds": [sample("harp", "harp")]}
    write_report(ROWS, samples, {"seed": 3}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["seed"] == 3
    assert record["versions"]["torch"]
    assert [row["passed"] for row in record["rows"]] == [True, False, True]
    assert record["rows"][0]["interval"] == pytest.approx([0.764, 0.991], abs=1e-3)
    written = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert written == {"pictures.png", "sounds.png"}
    assert "media" in capsys.readouterr().out


@pytest.mark.parametrize("name", SHEETS)
def test_a_sheet_holds_every_picture(name: str) -> None:
    layout = SHEETS[name]
    one_row = contact_sheet([sample("dog, blue", "cat")] * layout.columns, layout)
    two_rows = contact_sheet([sample("dog, blue", "cat")] * (layout.columns + 1), layout)
    assert two_rows.height == 2 * one_row.height
    assert two_rows.width == one_row.width


def test_what_is_wrong_stands_out_and_says_what_was_seen() -> None:
    layout = SHEETS["pictures"]
    right = contact_sheet([sample("dog, blue", "dog")], layout)
    wrong = contact_sheet([sample("dog, blue", "cat")], layout)
    for sheet, colour in ((right, 1), (wrong, 0)):
        words = np.asarray(sheet, dtype=int)[layout.height :]
        assert (255 - words).sum(axis=(0, 1)).argmin() == colour


def test_a_film_strip_shows_the_frames_in_order() -> None:
    frames = np.stack([np.full((32, 32, 3), 30 * n, np.uint8) for n in range(8)])
    strip = np.asarray(film_strip(frames))
    assert strip.shape == (48, 8 * 48, 3)
    assert [int(strip[24, 48 * n + 24, 0]) for n in range(8)] == [30 * n for n in range(8)]


def test_a_spectrogram_has_low_tones_at_the_bottom() -> None:
    times = np.arange(40_960) / 16_000
    picture = np.asarray(spectrogram(np.sin(2 * np.pi * 300 * times).astype(np.float32)))
    assert picture.shape == (64, 128, 3)
    brightest = int(picture[..., 0].mean(axis=1).argmax())
    assert brightest > 48
