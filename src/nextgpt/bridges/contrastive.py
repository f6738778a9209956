"""Losses that teach a Q-Former media and captions together, before there is a language model.

Source: arXiv:2301.12597 (BLIP-2), section 3.2; hard negatives: arXiv:2107.07651 (ALBEF).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nextgpt.bridges.qformer import QFormer
from nextgpt.losses import caption_cross_entropy


def query_similarities(queries: Tensor, texts: Tensor) -> Tensor:
    """Compare media with texts: each by the query that is most like the text.

    Args:
        queries: (B, M, E), M vectors of length 1 a medium.
        texts: (C, E), a vector of length 1 a text.

    Returns:
        (B, C) cosines.
    """
    return torch.einsum("bme,ce->bcm", queries, texts).amax(dim=-1)


def contrastive_loss(similarities: Tensor, label_smoothing: float = 0.1) -> Tensor:
    """Find the text of each medium among those of the batch, and the medium of each text.

    Args:
        similarities: (B, B) of medium i and text j, divided by the temperature.
        label_smoothing: Share of the target that all have alike.

    Returns:
        Scalar, the mean of both ways.
    """
    own = torch.arange(len(similarities), device=similarities.device)
    both = [
        functional.cross_entropy(logits, own, label_smoothing=label_smoothing)
        for logits in (similarities, similarities.T)
    ]
    return torch.stack(both).mean()


def hard_negatives(
    similarities: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a wrong medium for each text and a wrong text for each medium, like ones more often.

    Args:
        similarities: As in ``contrastive_loss``; B is 2 or more.
        generator: Of the draw, on the CPU so that every device draws the same; PyTorch's own by
            default.

    Returns:
        (B,) media by text and (B,) texts by medium, int64 beside the similarities.

    Raises:
        ValueError: a single pair has no negatives.
    """
    if len(similarities) < 2:
        raise ValueError("a batch of one pair has no negatives; give batches of 2 or more")
    alike = similarities.detach().float().cpu()
    # NOTE: the own pair has no probability at all, however unlike the others are.
    alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool), -torch.inf)
    media, texts = (
        torch.multinomial(chances.softmax(dim=1), 1, generator=generator).squeeze(1)
        for chances in (alike.T, alike)
    )
    return media.to(similarities.device), texts.to(similarities.device)


def matching_loss(logits: Tensor) -> Tensor:
    """Tell pairs from hard negatives.

    Args:
        logits: (3B, 2), no and yes; the first B are the pairs.

    Returns:
        Scalar.
    """
    is_pair = torch.arange(len(logits), device=logits.device) < len(logits) // 3
    return functional.cross_entropy(logits, is_pair.long())


class PairLosses(NamedTuple):
    """What is gone down, as a sum, and how well captions are found.

    Attributes:
        contrast: Scalar, see ``contrastive_loss``.
        matching: Scalar, see ``matching_loss``.
        caption: Scalar, cross-entropy of the captions' tokens.
        found: Scalar without a gradient, share of media whose own text is the likest.
    """

    contrast: Tensor
    matching: Tensor
    caption: Tensor
    found: Tensor


class QFormerHeads(nn.Module):
    """What reads a Q-Former's states for the three losses; thrown away after they have taught it.

    Words are scored by BERT's head, whose last layer is the table of the words' embeddings.
    """

    def __init__(self, hidden_size: int, vocabulary_size: int, embedding_size: int = 256) -> None:
        """Build the heads.

        Args:
            hidden_size: Width of the Q-Former.
            vocabulary_size: Rows of its embeddings.
            embedding_size: Width in which media and texts are compared.
        """
        super().__init__()
        self.media = nn.Linear(hidden_size, embedding_size)
        self.texts = nn.Linear(hidden_size, embedding_size)
        self.temperature = nn.Parameter(torch.tensor(0.07))
        self.matching = nn.Linear(hidden_size, 2)
        self.words = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.LayerNorm(hidden_size, eps=1e-12),
        )
        self.word_bias = nn.Parameter(torch.zeros(vocabulary_size))

    def similarities(self, queries: Tensor, words: Tensor) -> Tensor:
        """Compare media and texts that have not seen each other.

        Args:
            queries: (B, M, D).
            words: (C, T, D); the first of each stands for the text.

        Returns:
            (B, C), divided by the temperature.
        """
        media = functional.normalize(self.media(queries), dim=-1)
        texts = functional.normalize(self.texts(words[:, 0]), dim=-1)
        return query_similarities(media, texts) / self.temperature

    def word_logits(self, qformer: QFormer, words: Tensor) -> Tensor:
        """Score the next word: (..., D) states to (..., vocabulary) logits."""
        table = qformer.embeddings.word_embeddings.weight
        return functional.linear(self.words(words), table, self.word_bias)

    def forward(
        self,
        qformer: QFormer,
        features: Tensor,
        captions: list[str],
        generator: torch.Generator | None = None,
    ) -> PairLosses:
        """Compute the three losses of some media and their captions.

        Args:
            qformer: One that reads text.
            features: (B, N, D_enc), B is 2 or more.
            captions: B.
            generator: As in ``hard_negatives``.
        """
        ids, mask = qformer.tokenize(captions)
        similarities = self.similarities(*qformer(features, ids, mask, "separate"))
        media, texts = hard_negatives(similarities, generator)
        queries, _ = qformer(
            torch.cat([features, features[media], features]),
            torch.cat([ids, ids, ids[texts]]),
            torch.cat([mask, mask, mask[texts]]),
        )
        # Each query says what it thinks; their mean decides.
        matches = self.matching(queries).mean(dim=1)
        written = ids.clone()
        written[:, 0] = qformer.start_id
        _, words = qformer(features, written, mask, "causal")
        known = mask[:, 1:].bool()
        caption = caption_cross_entropy(
            self.word_logits(qformer, words[:, :-1][known]), ids[:, 1:][known]
        )
        own = torch.arange(len(similarities), device=similarities.device)
        found = (similarities.detach().argmax(dim=1) == own).float().mean()
        return PairLosses(contrastive_loss(similarities), matching_loss(matches), caption, found)
