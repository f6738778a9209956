"""The tokens of a picture in their order, line by line, for a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isqrt

from nextgpt.input_side import InputSide
from nextgpt.layout import Layout
from nextgpt.modality import Modality

LINE = 16
"""Tokens in a line where they are no map of patches."""
LONGEST_LINE = 96


@dataclass(frozen=True)
class Cell:
    """One token.

    Attributes:
        view: Which view it belongs to, from 0; none where it is a learned vector.
        place: Of the view's tokens, or of the learned vectors, from 0.
        patch: Row and column of the patch that it is made of, where it is of one.
    """

    view: int | None
    place: int
    patch: tuple[int, int] | None = None


@dataclass(frozen=True)
class Block:
    """Lines of tokens that stand together in a drawing: a view, or rows that all have an end.

    Attributes:
        first: Number of its first token in the sequence, from 1.
        lines: The tokens, one line after the other.
    """

    first: int
    lines: tuple[tuple[Cell, ...], ...]

    @property
    def cells(self) -> list[Cell]:
        """All tokens in their order."""
        return [cell for line in self.lines for cell in line]

    @property
    def num_columns(self) -> int:
        """Tokens of the longest line."""
        return max(map(len, self.lines))


@dataclass(frozen=True)
class ViewTokens:
    """The tokens that a connector makes of a view of a picture.

    Attributes:
        number: How many.
        side: Rows and columns of patches, where each token is of one; else 0.
        num_before: Tokens before those of patches, such as that of a class.
    """

    number: int
    side: int
    num_before: int

    @classmethod
    def of(cls, chain: InputSide) -> ViewTokens:
        """Find out whether the connector keeps one token a patch."""
        num_features, _ = chain.encoder.feature_shape(chain.partition.seen_as(Modality.IMAGE))
        num_tokens = chain.input_projection.num_tokens
        # A fixed number of tokens may be that of the patches by chance.
        keeps = all(num_tokens(number) == number for number in (num_features, 4 * num_features))
        before = int(getattr(chain.encoder, "keeps_cls", False))
        side = isqrt(num_features - before)
        is_map = keeps and side**2 + before == num_features
        return cls(num_tokens(num_features), *((side, before) if is_map else (0, 0)))

    def cell(self, index: int) -> Cell:
        """The token at an index of an assembler's order."""
        if index < 0:
            return Cell(None, -1 - index)
        view, place = divmod(index, self.number)
        is_patch = self.side and place >= self.num_before
        return Cell(view, place, divmod(place - self.num_before, self.side) if is_patch else None)


def in_sequence(chain: InputSide, layout: Layout) -> list[Block]:
    """The tokens of a picture in the sequence, in their order."""
    tokens = ViewTokens.of(chain)
    return _blocks(chain.assembler.order(layout, tokens.number), tokens)


def beside_sequence(chain: InputSide, layout: Layout) -> list[Block]:
    """The tokens that a fusion looks at; none without."""
    tokens = ViewTokens.of(chain)
    number = 0 if chain.fusion is None else layout.num_views * tokens.number
    return _blocks(range(number), tokens)


def _blocks(order: Sequence[int], tokens: ViewTokens) -> list[Block]:
    """Whole views and others alone, rows that end in a learned vector together."""
    blocks, first = [], 1
    for has_end, group in groupby(_runs(order, tokens.number), key=lambda run: run[-1] < 0):
        runs = list(group)
        for together in [runs] if has_end else [[run] for run in runs]:
            length = LONGEST_LINE if has_end else tokens.side or LINE
            lines = [line for run in together for line in _wrapped(run, length, tokens)]
            blocks.append(Block(first, tuple(lines)))
            first += sum(map(len, together))
    return blocks


def _runs(order: Sequence[int], num_view_tokens: int) -> Iterator[list[int]]:
    """Cut an order behind learned vectors and behind whole views."""
    run: list[int] = []
    for index in order:
        run.append(index)
        start = run[0]
        is_view = start % num_view_tokens == 0 and len(run) == num_view_tokens
        if index < 0 or (is_view and index == start + num_view_tokens - 1):
            yield run
            run = []
    if run:
        yield run


def _wrapped(run: list[int], length: int, tokens: ViewTokens) -> Iterator[tuple[Cell, ...]]:
    cells = [tokens.cell(index) for index in run]
    if len(run) == tokens.number and tokens.num_before and run[0] >= 0:
        yield tuple(cells[: tokens.num_before])
        cells = cells[tokens.num_before :]
    for start in range(0, len(cells), length):
        yield tuple(cells[start : start + length])
