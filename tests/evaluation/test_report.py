"""What a measurement leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextgpt.evaluation.report import markdown, write_report
from nextgpt.evaluation.results import Row, Sample

RIGHT, WRONG = Sample("dog", "dog", True), Sample("dog", "cat", False)
ROWS = [
    Row.proportion("media", [RIGHT] * 19 + [WRONG], 0.95),
    Row.proportion("concept", [RIGHT, WRONG], 0.7, note="says the judge"),
    Row("seconds", 2.345, "<", 8.0, 1),
]


def test_the_table_says_counts_targets_and_what_was_missed() -> None:
    lines = markdown(ROWS).splitlines()
    assert lines[2].startswith("| media | 95.0% (19 of 20; 76% to 99%) | at least 95% | reached")
    assert "says the judge" in lines[3]
    assert "**missed**" in lines[3]
    assert lines[4] == "| seconds | 2.35 | less than 8 | reached |"


def test_table_numbers_and_page_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(ROWS, {"seed": 3}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["seed"] == 3
    assert record["versions"]["torch"]
    assert [row["passed"] for row in record["rows"]] == [True, False, True]
    assert (tmp_path / "out" / "results.md").read_text() == markdown(ROWS)
    assert "says the judge" in (tmp_path / "out" / "index.html").read_text()
    printed = capsys.readouterr().out
    assert "media" in printed
    assert "index.html" in printed
