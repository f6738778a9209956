"""Connectors: encoder features to input embeddings of the language model."""

from collections.abc import Sequence

from torch import Tensor, nn

from nextgpt.layout import Layout


class Connector(nn.Module):
    """Base of all connectors; built with the widths of both sides."""

    needs_text: bool = False
    """Whether it wants to know what is asked about a medium."""

    output_size: int
    """D_lm, or another width for a fusion that takes it."""

    def num_tokens(self, num_features: int) -> int:
        """Number of input embeddings M that N features become: one each, unless overridden."""
        return num_features

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) features to (B, M, D_lm) input embeddings."""
        raise NotImplementedError

    def connect(
        self, features: Tensor, layouts: Sequence[Layout], texts: Sequence[str] | None
    ) -> Tensor:
        """Map the features of several media, which is all ``forward`` needs to know for most.

        Args:
            features: (V, N, D_enc), the views of all media, medium by medium.
            layouts: Of the media; V views in all.
            texts: What is said about each medium, for a connector that ``needs_text``.

        Returns:
            (V, M, output_size).
        """
        return self(features)


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
        self.output_size = output_size
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
        self.output_size = output_size
        layers: list[nn.Module] = [nn.Linear(input_size, output_size)]
        for _ in range(depth - 1):
            layers += [nn.GELU(), nn.Linear(output_size, output_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, N, D_lm)."""
        return self.layers(features)
