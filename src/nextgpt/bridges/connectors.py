"""Connectors: encoder features to input embeddings of the language model."""

from torch import Tensor, nn


class Connector(nn.Module):
    """Base of all connectors; built with the widths of both sides."""

    def num_tokens(self, num_features: int) -> int:
        """Number of input embeddings M that N features become."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) features to (B, M, D_lm) input embeddings."""
        raise NotImplementedError


class LinearConnector(Connector):
    """One linear layer, a token a feature.

    Source: arXiv:2309.05519 (encoding-side alignment).
    """

    def __init__(self, input_size: int, output_size: int) -> None:
        """Build the layer.

        Args:
            input_size: Width of the features.
            output_size: Width of the language model.
        """
        super().__init__()
        self.linear = nn.Linear(input_size, output_size)

    def num_tokens(self, num_features: int) -> int:
        """As many as there are features."""
        return num_features

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, N, D_lm)."""
        return self.linear(features)
