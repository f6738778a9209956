"""Attention and feed-forward layers that several bridges are made of."""

from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Attention of some vectors to others, without biases; norms are the caller's."""

    def __init__(
        self, query_size: int, media_size: int, head_size: int = 64, num_heads: int = 8
    ) -> None:
        """Build the projections.

        Args:
            query_size: Width of the vectors that look, and of what they get.
            media_size: Width of the vectors that are looked at.
            head_size: Width of a head.
            num_heads: Heads; together they may be wider or narrower than either side.
        """
        super().__init__()
        self.num_heads = num_heads
        width = head_size * num_heads
        self.query = nn.Linear(query_size, width, bias=False)
        self.key_value = nn.Linear(media_size, 2 * width, bias=False)
        self.output = nn.Linear(width, query_size, bias=False)

    def keys_values(self, media: Tensor) -> tuple[Tensor, Tensor]:
        """Project what is looked at: (B, S, D_media) to keys and values, (B, H, S, D_head) each."""
        keys, values = self.key_value(media).chunk(2, dim=-1)
        return self._heads(keys), self._heads(values)

    def forward(
        self, queries: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """Look.

        Args:
            queries: (B, T, D_query).
            keys_values: From ``keys_values``.
            mask: (B, T, S) bool, true where a query may look; everywhere by default.

        Returns:
            (B, T, D_query), exactly 0 for a query that may look nowhere.
        """
        blind = None
        if mask is not None:
            # What may look nowhere looks everywhere, which has a softmax, and sees nothing.
            blind = ~mask.any(dim=-1, keepdim=True)
            mask = (mask | blind).unsqueeze(1)
        heads = nn.functional.scaled_dot_product_attention(
            self._heads(self.query(queries)), *keys_values, attn_mask=mask
        )
        seen = heads.transpose(1, 2).flatten(2)
        return self.output(seen if blind is None else seen.masked_fill(blind, 0.0))

    def _heads(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def feed_forward(size: int) -> nn.Sequential:
    """Norm and two layers without biases, four times as wide between."""
    return nn.Sequential(
        nn.LayerNorm(size),
        nn.Linear(size, 4 * size, bias=False),
        nn.GELU(),
        nn.Linear(4 * size, size, bias=False),
    )
