"""What a measurement leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nextgpt.evaluation.metrics import Row
from nextgpt.evaluation.report import COLUMNS, Sample, contact_sheet, markdown, write_report

ROWS = [
    Row.proportion("media", [True] * 19 + [False], 0.95),
    Row.proportion("concept", [True, False], 0.7, note="says the judge"),
    Row("seconds", 2.345, "<", 8.0, 1),
]


def sample(asked: str, seen: str) -> Sample:
    return Sample(Image.new("RGB", (64, 64), "blue"), asked, seen, "Here you are.")


def test_the_table_says_counts_targets_and_what_was_missed() -> None:
    lines = markdown(ROWS).splitlines()
    assert lines[2].startswith("| media | 95.0% (19 of 20; 76% to 99%) | at least 95% | reached")
    assert "says the judge" in lines[3]
    assert "**missed**" in lines[3]
    assert lines[4] == "| seconds | 2.35 | less than 8 | reached |"


def test_numbers_and_facts_are_written_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(ROWS, [sample("dog, blue", "dog")], {"seed": 3}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["seed"] == 3
    assert record["versions"]["torch"]
    assert [row["passed"] for row in record["rows"]] == [True, False, True]
    assert record["rows"][0]["interval"] == pytest.approx([0.764, 0.991], abs=1e-3)
    assert (tmp_path / "out" / "pictures.png").exists()
    assert "media" in capsys.readouterr().out


def test_a_sample_is_right_when_the_judge_saw_what_was_asked_for() -> None:
    assert sample("dog, blue", "dog").is_right
    assert not sample("dog, blue", "cat").is_right


def test_the_sheet_holds_every_picture() -> None:
    one_row = contact_sheet([sample("dog, blue", "cat")] * COLUMNS)
    two_rows = contact_sheet([sample("dog, blue", "cat")] * (COLUMNS + 1))
    assert two_rows.height == 2 * one_row.height
    assert two_rows.width == one_row.width
