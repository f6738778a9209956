"""How often each of several data sets is drawn from."""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Literal

Rule = Literal["sqrt", "proportional", "equal"]

RULES: dict[str, Callable[[int], float]] = {
    "sqrt": sqrt,
    "proportional": float,
    "equal": lambda size: 1.0,
}


def mixing_weights(
    rule: str, sizes: Sequence[int], factors: Sequence[float] | None = None
) -> list[float]:
    """Share of each data set.

    Args:
        rule: ``sqrt`` (of the size: large sets are drawn from more, but do not drown small ones),
            ``proportional`` (to the size) or ``equal``.
        sizes: Examples of each data set.
        factors: Corrections by hand, multiplied with what the rule gives; 1 each by default.

    Returns:
        Numbers that add up to 1.

    Raises:
        ValueError: the rule is unknown, a size or factor cannot be, or nothing is left.

    Source: arXiv:2305.06500 (InstructBLIP), section 2.4.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule of mixing {rule!r}; choose {', '.join(RULES)}")
    if factors is not None and len(factors) != len(sizes):
        raise ValueError(f"{len(factors)} factors for {len(sizes)} data sets; give one each")
    for name, values in (("size", sizes), ("factor", factors or [])):
        if wrong := [value for value in values if not 0 <= value < float("inf")]:
            raise ValueError(f"a data set has {name} {wrong[0]}; give 0 or more")
    corrections = factors or [1.0] * len(sizes)
    weights = [RULES[rule](size) * by for size, by in zip(sizes, corrections, strict=True)]
    total = sum(weights)
    if not total:
        raise ValueError(f"nothing is left of {len(sizes)} data sets; give one a size and factor")
    return [weight / total for weight in weights]
