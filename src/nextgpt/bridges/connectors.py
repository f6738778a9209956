"""Connectors: encoder features to input embeddings of the language model."""

from torch import Tensor, nn


class Connector(nn.Module):
    """Base of all connectors; built with the widths of both sides."""

    def num_tokens(self, num_features: int) -> int:
        """Number of input embeddings M that N features become: one each, unless overridden."""
        return num_features

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

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, N, D_lm)."""
        return self.linear(features)


class MlpConnector(Connector):
    """Linear layers with GELU between them, a token a feature.

    Source: arXiv:2310.03744 (LLaVA-1.5), whose ``mlp2x_gelu`` has a depth of 2.
    """

    def __init__(self, input_size: int, output_size: int, depth: int = 2) -> None:
        """Build the layers.

        Args:
            input_size: Width of the features.
            output_size: Width of the language model, and of the layers between.
            depth: Linear layers.

        Raises:
            ValueError: there is no layer.
        """
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}: give 1 or more layers")
        layers: list[nn.Module] = [nn.Linear(input_size, output_size)]
        for _ in range(depth - 1):
            layers += [nn.GELU(), nn.Linear(output_size, output_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, N, D_lm)."""
        return self.layers(features)
