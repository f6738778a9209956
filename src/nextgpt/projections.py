"""From the language model's states at signal tokens to the conditioning of a decoder."""

import torch
from torch import Tensor, nn

from nextgpt.ranks import summed

EPSILON = 1e-6
"""Added to variances."""


class Standardise(nn.Module):
    """Running mean 0 and standard deviation 1 of every feature; no parameters.

    A language model's states have a few features that are large and nearly constant. They would
    drown the ones that tell one caption from another: without this, the alignment loss of the micro
    model stayed near that of the mean caption.
    """

    mean: Tensor
    variance: Tensor
    num_batches: Tensor

    def __init__(self, *shape: int, momentum: float = 0.02) -> None:
        """Start as the identity; ``shape`` is that of one item."""
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("num_batches", torch.zeros(()))

    def forward(self, items: Tensor) -> Tensor:
        """Standardise (B, *shape); in training the statistics follow the batches of all ranks."""
        if self.training and self.num_batches.isfinite():
            self._follow(items.detach())
        return (items - self.mean) / (self.variance + EPSILON).sqrt()

    def fix_as_identity(self) -> None:
        """Change nothing, to the last bit and in training too: infinitely many batches say so."""
        self.mean.zero_()
        self.variance.fill_(1 - EPSILON)
        self.num_batches.fill_(torch.inf)

    def _follow(self, items: Tensor) -> None:
        count = summed(items.new_tensor(len(items)))
        if count < 2:
            return  # One item has no deviation.
        self.num_batches += 1
        # The first batches are averaged, later ones outweigh what is long past.
        share = max(self.momentum, 1 / float(self.num_batches))
        self.mean.lerp_(summed(items.sum(dim=0)) / count, share)
        self.variance.lerp_(summed((items - self.mean).square().sum(dim=0)) / count, share)


class OutputProjection(nn.Module):
    """Transformer encoder-decoder with learned queries over one run of signal tokens.

    Source: arXiv:2309.05519 (decoding-side alignment); sizes of the default are those of the
    original system: 512 wide, 4 + 4 layers, 4 heads, 2048 in the feed-forward, no dropout.
    """

    def __init__(
        self,
        input_size: int,
        num_signal_tokens: int,
        conditioning_shape: tuple[int, int],
        hidden_size: int = 512,
        num_layers: int = 4,
        num_heads: int = 4,
        feedforward_size: int = 2048,
    ) -> None:
        """Build the projection.

        Args:
            input_size: Width of the language model.
            num_signal_tokens: Length of a run.
            conditioning_shape: (L, C) of the decoder.
            hidden_size: Width inside; the conditioning's own where that is narrower, for more would
                be weights without a use. The feed-forward layers shrink alike.
            num_layers: Layers of the encoder and of the decoder.
            num_heads: Attention heads.
            feedforward_size: Width of the feed-forward layers.
        """
        super().__init__()
        length, width = conditioning_shape
        feedforward_size = feedforward_size * min(hidden_size, width) // hidden_size
        hidden_size = min(hidden_size, width)
        self.num_signal_tokens = num_signal_tokens
        self.standardise = Standardise(num_signal_tokens, input_size)
        self.input = nn.Linear(input_size, hidden_size)
        sizes = (hidden_size, num_heads, feedforward_size)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(*sizes, dropout=0.0, batch_first=True, norm_first=True),
            num_layers,
            nn.LayerNorm(hidden_size),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(*sizes, dropout=0.0, batch_first=True, norm_first=True),
            num_layers,
            nn.LayerNorm(hidden_size),
        )
        self.output = nn.Linear(hidden_size, width)
        self.queries = nn.Parameter(torch.randn(1, length, hidden_size))

    def forward(self, signal_states: Tensor, signal_embeds: Tensor) -> Tensor:
        """Map states at runs of signal tokens to decoder conditioning.

        Shapes: B runs, S signal tokens, D language model width, L and C conditioning.

        Args:
            signal_states: (B, S, D) last-layer hidden states.
            signal_embeds: (B, S, D) input embeddings of the same tokens.

        Returns:
            (B, L, C) float32.

        Raises:
            ValueError: S differs from ``num_signal_tokens``.
        """
        if signal_states.shape[1] != self.num_signal_tokens:
            raise ValueError(
                f"got {signal_states.shape[1]} signal tokens in a run, this projection takes "
                f"{self.num_signal_tokens}"
            )
        # NOTE: decided here, because freezing after train() or without it calls nothing.
        self.standardise.train(self.training and self.queries.requires_grad)
        memory = self.encoder(self.input(self.standardise(signal_states + signal_embeds)))
        queries = self.queries.expand(len(memory), -1, -1)
        return self.output(self.decoder(queries, memory)).float()
