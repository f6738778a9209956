"""Rows of the table: proportions with their intervals, held against their targets."""

from __future__ import annotations

import json

import pytest

from nextgpt.evaluation.results import Row, Sample, Shares, wilson_interval


def cases(*verdicts: bool) -> list[Sample]:
    return [Sample("dog", "dog" if is_right else "cat", is_right) for is_right in verdicts]


def test_a_proportion_counts_and_is_compared_with_its_target() -> None:
    row = Row.proportion("m", cases(True, True, False, True), 0.75)
    assert (row.value, row.hits, row.count, row.passed) == (0.75, 3, 4, True)
    assert not Row.proportion("m", cases(True, True, False, True), 0.75, ">").passed
    assert not Row.proportion("m", cases(True, False), 0.75).passed


def test_no_case_at_all_fails() -> None:
    assert not Row.proportion("m", [], 0.0).passed


def test_less_is_better_where_the_target_is_an_upper_bound() -> None:
    assert Row("seconds", 7.9, "<", 8.0, 1).passed
    assert not Row("seconds", 8.0, "<", 8.0, 1).passed
    assert Row("seconds", 7.9, "<", 8.0, 1).interval is None


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Published values: Brown, Cai and DasGupta, 2001, and the limits of an empty sample.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0)],
)
def test_wilsons_interval(hits: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_a_row_as_data_holds_all_but_its_cases() -> None:
    row = Row.proportion("m", cases(*[True] * 19, False), 0.95, note="says the judge")
    record = json.loads(json.dumps(row.to_json()))
    assert record["interval"] == pytest.approx([0.764, 0.991], abs=1e-3)
    assert (record["hits"], record["count"], record["passed"]) == (19, 20, True)
    assert (record["metric"], record["note"]) == ("m", "says the judge")
    assert "samples" not in record
    assert len(row.samples) == 20


def test_a_judge_names_what_it_is_surest_of() -> None:
    assert Shares({"cat": 0.2, "dog": 0.7, "owl": 0.1}).likeliest == "dog"
