"""A function that tells what happens becomes a generator that can be left at any point."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from nextgpt.rendering import stepwise


def counting(tell: Callable[[int], None]) -> str:
    for number in range(3):
        tell(number)
    return "counted"


def test_what_is_told_is_yielded_and_the_result_returned() -> None:
    steps = stepwise(counting)
    assert [next(steps), next(steps), next(steps)] == [0, 1, 2]
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert ended.value.value == "counted"


def test_a_function_that_tells_nothing_ends_at_once() -> None:
    with pytest.raises(StopIteration) as ended:
        next(stepwise(lambda tell: 7))
    assert ended.value.value == 7


def test_nothing_runs_before_the_first_step_and_no_further_than_asked() -> None:
    done: list[str] = []

    def work(tell: Callable[[None], None]) -> None:
        done.append("first")
        tell(None)
        done.append("second")

    steps = stepwise(work)
    assert done == []
    next(steps)
    assert done == ["first"]


def test_an_error_comes_out_where_the_step_was_asked_for() -> None:
    def work(tell: Callable[[int], None]) -> None:
        tell(1)
        raise ValueError("no further")

    steps = stepwise(work)
    assert next(steps) == 1
    with pytest.raises(ValueError, match="no further"):
        next(steps)


def test_closing_leaves_the_function_through_its_finally_blocks() -> None:
    left: list[str] = []

    def work(tell: Callable[[int], None]) -> None:
        try:
            tell(1)
            left.append("went on")
        finally:
            left.append("cleaned up")

    steps = stepwise(work)
    next(steps)
    steps.close()
    assert left == ["cleaned up"]


def test_two_functions_take_turns() -> None:
    one, other = stepwise(counting), stepwise(counting)
    assert [next(one), next(other), next(one), next(other)] == [0, 0, 1, 1]
    one.close()
    assert next(other) == 2


def test_steps_inside_of_steps() -> None:
    def outer(tell: Callable[[str], None]) -> int:
        for number in stepwise(counting):
            tell(f"inner {number}")
        return 5

    assert list(stepwise(outer)) == ["inner 0", "inner 1", "inner 2"]


def test_the_mode_of_computing_is_the_callers_between_steps() -> None:
    @torch.inference_mode()
    def steps() -> Iterator[bool]:
        yield from stepwise(work)

    def work(tell: Callable[[bool], None]) -> None:
        with torch.no_grad():
            tell(torch.is_inference_mode_enabled())
            tell(torch.is_inference_mode_enabled())

    for inside in steps():
        assert inside and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
