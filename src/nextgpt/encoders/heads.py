"""Trainable pieces of micro-bind: the head into the joint space, and the gate of the picture side."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BindingHead(nn.Module):
    """Two layers from what a tower saw to a unit vector of the joint space.

    Args:
        input_dim: Width of the tower's summary of one item.
        embed_dim: Width of the joint space.
        hidden_dim: Width between the layers.
        dropout: Share of inputs and of hidden values dropped in training.
    """

    def __init__(
        self, input_dim: int, embed_dim: int, hidden_dim: int = 512, dropout: float = 0.4
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            # Without scale and shift it only standardises: towers mix values of unlike sizes.
            nn.BatchNorm1d(input_dim, affine=False),
            nn.Dropout(dropout),
            nn.Linear(input_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, embed_dim),
        )

    def forward(self, summary: Tensor) -> Tensor:
        """Map (B, input_dim) float summaries to (B, embed_dim) vectors of length 1."""
        return functional.normalize(self.layers(summary), dim=-1)


class DrawingGate(nn.Module):
    """Tells how much a picture resembles the drawings a head was trained on.

    Fitted on drawings alone: principal directions of their mean features, and the distance within which
    nearly all of them lie.

    Args:
        dim: Width of the features.
        rank: Principal directions that distances are measured in.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("directions", torch.zeros(rank, dim))
        self.register_buffer("threshold", torch.ones(()))
        self.register_buffer("softness", torch.ones(()))

    def fit(self, features: Tensor) -> None:
        """Learn from (N, dim) mean features of drawings, N well above the rank."""
        self.centre.copy_(features.mean(dim=0))
        _, spreads, directions = torch.linalg.svd(features - self.centre, full_matrices=False)
        rank = len(self.directions)
        scale = spreads[:rank, None] / len(features) ** 0.5
        self.directions.copy_(directions[:rank] / scale)
        distances = self.distance(features)
        self.threshold.copy_(distances.quantile(0.99))
        self.softness.copy_(distances.std())

    def distance(self, features: Tensor) -> Tensor:
        """Measure (B, dim) features: (B,) mean squared deviations, about 1 for drawings."""
        return ((features - self.centre) @ self.directions.T).square().mean(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B,) weights of the drawing's route: near 1 for drawings, near 0 far from them."""
        return torch.sigmoid((self.threshold - self.distance(features)) / self.softness)
