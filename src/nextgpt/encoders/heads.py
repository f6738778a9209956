"""Trainable pieces of micro-bind: the head into the joint space, the gate of the picture side."""

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

    What it measures is the share of a picture's deviation from the mean drawing that the drawings'
    own principal directions leave unexplained. The limit comes from drawings by artists the
    directions were not fitted on; no photograph is needed.

    Args:
        dim: Width of the features.
        rank: Principal directions.
    """

    centre: Tensor
    directions: Tensor
    threshold: Tensor
    softness: Tensor

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("directions", torch.zeros(rank, dim))
        self.register_buffer("threshold", torch.ones(()))
        self.register_buffer("softness", torch.ones(()))

    def fit(self, features: Tensor, artists: Tensor) -> None:
        """Learn directions from all drawings, and the limit from each artist seen by the others.

        Args:
            features: (N, dim) mean features of drawings.
            artists: (N,) whole numbers, equal for drawings of one hand.

        Raises:
            ValueError: fewer than two artists, or too few drawings for the rank.
        """
        hands = artists.unique().tolist()
        if len(hands) < 2:
            raise ValueError(f"the gate needs drawings by at least 2 artists, got {len(hands)}")
        unseen = []
        for hand in hands:
            self._fit_directions(features[artists != hand])
            unseen.append(self.distance(features[artists == hand]))
        distances = torch.cat(unseen)
        self._fit_directions(features)
        self.threshold.copy_(distances.quantile(0.999))
        self.softness.copy_(distances.std() / 6)

    def _fit_directions(self, features: Tensor) -> None:
        rank = len(self.directions)
        if len(features) <= rank:
            raise ValueError(
                f"{len(features)} drawings do not span {rank} directions; lower gate_rank"
            )
        self.centre.copy_(features.mean(dim=0))
        directions = torch.linalg.svd(features - self.centre, full_matrices=False)[2]
        self.directions.copy_(directions[:rank])

    def distance(self, features: Tensor) -> Tensor:
        """Measure (B, dim) features: (B,) shares left unexplained, 0 to 1."""
        deviations = features - self.centre
        explained = (deviations @ self.directions.T).square().sum(dim=-1)
        return 1 - explained / deviations.square().sum(dim=-1).clamp(min=1e-12)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B,) weights of the drawing's route: near 1 for drawings, near 0 far from them."""
        return torch.sigmoid((self.threshold - self.distance(features)) / self.softness)
