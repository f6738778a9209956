"""Shares of data sets: worked values, and what cannot be a share."""

from __future__ import annotations

import pytest

from nextgpt.data.sampling import RULES, mixing_weights


@pytest.mark.parametrize(
    ("rule", "sizes", "expected"),
    [
        ("sqrt", [100, 400, 2500], [0.125, 0.25, 0.625]),
        ("sqrt", [10_000, 1_000_000], [1 / 11, 10 / 11]),
        ("proportional", [10_000, 1_000_000], [1 / 101, 100 / 101]),
        ("equal", [100, 400, 2500, 1], [0.25] * 4),
    ],
)
def test_shares_are_those_worked_out_by_hand(
    rule: str, sizes: list[int], expected: list[float]
) -> None:
    assert mixing_weights(rule, sizes) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_shares_add_up_to_one_and_depend_on_no_order(rule: str) -> None:
    sizes = [3, 17, 12_345, 9]
    weights = mixing_weights(rule, sizes)
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert mixing_weights(rule, sizes[::-1]) == pytest.approx(weights[::-1], abs=1e-12)


def test_factors_correct_a_rule_by_hand() -> None:
    weights = mixing_weights("sqrt", [100, 400, 2500], [2, 1, 0])
    assert weights == pytest.approx([0.5, 0.5, 0], abs=1e-12)
    assert mixing_weights("sqrt", [100, 400], [3, 3]) == mixing_weights("sqrt", [100, 400])


@pytest.mark.parametrize(
    ("rule", "sizes", "factors", "message"),
    [
        ("cubic", [1], None, "cubic.*sqrt, proportional, equal"),
        ("sqrt", [1, 2], [1], "1 factors for 2"),
        ("sqrt", [4, -9], None, "size -9"),
        ("equal", [4, 9], [1, -0.5], "factor -0.5"),
        ("equal", [4], [float("nan")], "factor nan"),
        ("proportional", [0, 0], None, "nothing is left of 2"),
        ("equal", [], None, "nothing is left of 0"),
    ],
)
def test_what_cannot_be_a_share_is_refused(
    rule: str, sizes: list[int], factors: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mixing_weights(rule, sizes, factors)
