"""Assemblers: the tokens of a medium's views, in the order in which they are read."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from nextgpt.layout import Layout


class Assembler(nn.Module):
    """The tokens of all views one after the other: the base of all assemblers.

    An assembler is an order: a list of indices into the tokens of a medium, in which -1, -2 ...
    stand for its own learned vectors. Everything else follows from it.

    Shapes: V views of a medium, M tokens a view, D width of the language model.
    """

    vectors: Tensor
    """(K, D) learned vectors, such as the end of a row."""

    def __init__(self, output_size: int, num_vectors: int = 0) -> None:
        """Draw the learned vectors.

        Args:
            output_size: Width of the language model.
            num_vectors: How many there are.
        """
        super().__init__()
        if num_vectors:
            self.vectors = nn.Parameter(torch.randn(num_vectors, output_size) * output_size**-0.5)
        else:
            self.register_buffer("vectors", torch.zeros(0, output_size), persistent=False)

    def order(self, layout: Layout, num_view_tokens: int) -> list[int]:
        """Say what stands where.

        Args:
            layout: Of the medium.
            num_view_tokens: M.

        Returns:
            Indices into the V * M tokens of the medium, view by view; -1 - k for learned vector k.
        """
        return list(range(layout.num_views * num_view_tokens))

    @cached_property
    def _known(self):  # noqa: ANN202  a cached function
        @lru_cache(maxsize=4096)
        def order(layout: Layout, num_view_tokens: int) -> Tensor:
            return torch.tensor(self.order(layout, num_view_tokens), device="cpu")

        return order

    def num_tokens(self, layout: Layout, num_view_tokens: int) -> int:
        """Places that a medium takes in a sequence."""
        return len(self._known(layout, num_view_tokens))

    def forward(self, tokens: Tensor, layouts: Sequence[Layout]) -> Tensor:
        """Put the tokens of several media in order.

        Args:
            tokens: (V of all media, M, D), medium by medium.
            layouts: Of the media.

        Returns:
            (L, D), the sequences of all media one after the other.
        """
        num_view_tokens = tokens.shape[1]
        # The learned vectors stand behind all tokens, the last one first: index -1 - k finds k.
        table = torch.cat([tokens.flatten(0, 1), self.vectors.flip(0).to(tokens.dtype)])
        indices, first = [torch.empty(0, dtype=torch.long, device="cpu")], 0
        for layout in layouts:
            order = self._known(layout, num_view_tokens)
            indices.append(torch.where(order < 0, order, order + first))
            first += layout.num_views * num_view_tokens
        return table[torch.cat(indices).to(tokens.device)]
