"""The Q-Former: learned queries read a medium, and what is asked about it, into a few tokens."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextgpt import architectures
from nextgpt.bridges import qformer_files
from nextgpt.bridges.connectors import Connector
from nextgpt.layout import Layout

Pattern = Literal["separate", "joint", "causal"]
"""Who sees whom: queries and text themselves alone; all see all; or text sees the queries and the
text before it, which the queries do not see."""


def attention_pattern(pattern: Pattern, num_queries: int, text_mask: Tensor) -> Tensor:
    """Say which of queries and text, in this order, may look at which.

    Shapes: B rows, M queries, T places for text.

    Args:
        pattern: See ``Pattern``.
        num_queries: M.
        text_mask: (B, T), 1 where there is a token; others are seen by nobody.

    Returns:
        (B, 1, M + T, M + T) bool, true where a row may look at a column.

    Raises:
        ValueError: the pattern is unknown.

    Source: arXiv:2301.12597, figure 2.
    """
    num_rows, num_tokens = text_mask.shape
    length = num_queries + num_tokens
    is_query = torch.arange(length, device=text_mask.device) < num_queries
    from_query, to_query = is_query[:, None], is_query[None, :]
    if pattern == "joint":
        allowed = torch.ones(length, length, dtype=torch.bool, device=text_mask.device)
    elif pattern == "separate":
        allowed = from_query == to_query
    elif pattern == "causal":
        allowed = to_query | (~from_query & torch.ones_like(from_query & to_query).tril())
    else:
        raise ValueError(f"unknown pattern {pattern!r}; choose separate, joint or causal")
    there = torch.cat([text_mask.new_ones(num_rows, num_queries), text_mask], dim=1).bool()
    return allowed & there[:, None, None, :]


class QFormer(nn.Module):
    """BERT whose first places are learned queries, which also look at the features of a medium.

    Shapes: B media, N features, M queries, T places for text, D width inside.
    """

    def __init__(
        self,
        input_size: int,
        num_queries: int = 32,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        cross_attention_frequency: int = 2,
        tokenizer: str | None = None,
        max_text_tokens: int = 128,
        dropout: float = 0.1,
    ) -> None:
        """Build it, with weights drawn at random; see ``QFormerConnector`` for the arguments.

        Raises:
            ValueError: the heads do not divide the width, or the tokenizer is not one of BERT's
                kind.
        """
        from transformers import Blip2QFormerConfig, Blip2QFormerModel
        from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings

        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide hidden_size {hidden_size}")
        self.options: dict[str, Any] = {
            "input_size": input_size,
            "num_queries": num_queries,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "intermediate_size": intermediate_size,
            "cross_attention_frequency": cross_attention_frequency,
            "tokenizer": tokenizer,
        }
        self.num_queries, self.hidden_size = num_queries, hidden_size
        self.max_text_tokens = max_text_tokens
        self.reads_text = tokenizer is not None
        self.tokenizer: Any = None
        config = Blip2QFormerConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            cross_attention_frequency=cross_attention_frequency,
            encoder_hidden_size=input_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            use_qformer_text_input=self.reads_text,
        )
        if tokenizer is not None:
            # The vocabulary's last row is the token that starts a caption to be written.
            if architectures.weightless():
                self.start_id, padding_id = qformer_files.vocabulary_size(tokenizer), 0
            else:
                self.tokenizer = qformer_files.tokenizer_of(tokenizer)
                self.start_id, padding_id = len(self.tokenizer), self.tokenizer.pad_token_id
            config.vocab_size, config.pad_token_id = self.start_id + 1, padding_id
            self.padding_id = padding_id
            self.embeddings = Blip2TextEmbeddings(config)
            for table in (self.embeddings.word_embeddings, self.embeddings.position_embeddings):
                nn.init.normal_(table.weight, std=config.initializer_range)
        self.norm = nn.LayerNorm(input_size)
        self.queries = nn.Parameter(torch.randn(1, num_queries, hidden_size) * 0.02)
        self.model = Blip2QFormerModel(config)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode texts, each cut to ``max_text_tokens`` and padded on the right.

        An empty text has no tokens at all. There is always a place for one, so that everything that
        trains takes part in every pass.

        Returns:
            (B, T) int64 ids and (B, T) int64 mask, 1 where there is a token, beside the weights.
        """
        encoded = [
            self.tokenizer(text, truncation=True, max_length=self.max_text_tokens)["input_ids"]
            if text.strip()
            else []
            for text in texts
        ]
        length = max([1, *map(len, encoded)])
        input_ids = torch.full((len(texts), length), self.padding_id)
        text_mask = torch.zeros_like(input_ids)
        for row, ids in enumerate(encoded):
            input_ids[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            text_mask[row, : len(ids)] = 1
        return input_ids.to(self.queries.device), text_mask.to(self.queries.device)

    def forward(
        self,
        features: Tensor,
        input_ids: Tensor | None = None,
        text_mask: Tensor | None = None,
        pattern: Pattern = "joint",
    ) -> tuple[Tensor, Tensor]:
        """Read media, with a text beside each where texts are given.

        Args:
            features: (B, N, D_enc).
            input_ids: (B, T) int64.
            text_mask: (B, T), 1 where there is a token.
            pattern: See ``Pattern``.

        Returns:
            (B, M, D) states of the queries, (B, T, D) states of the text.
        """
        if not len(features):
            # NOTE: the heads of no media have no shape in transformers; of one none is kept.
            one = features.new_zeros(1, *features.shape[1:])
            text = (
                [] if input_ids is None else [torch.zeros_like(self.queries[:, :1, 0]).long()] * 2
            )
            queries, words = self(one, *text)
            return queries[:0], words[:0]
        # NOTE: decided here, because freezing after train() or without it calls nothing.
        self.model.train(self.training and self.queries.requires_grad)
        embeds, mask = self.queries.expand(len(features), -1, -1), None
        if input_ids is not None:
            assert text_mask is not None, "ids come with their mask"
            embeds = self.embeddings(input_ids, query_embeds=embeds)
            allowed = attention_pattern(pattern, self.num_queries, text_mask)
            # Of every kernel of attention, only some take booleans.
            mask = torch.zeros_like(allowed, dtype=embeds.dtype)
            mask.masked_fill_(~allowed, torch.finfo(embeds.dtype).min)
        states = self.model(
            query_embeds=embeds,
            query_length=self.num_queries,
            attention_mask=mask,
            encoder_hidden_states=self.norm(features),
            return_dict=True,
        ).last_hidden_state
        return states[:, : self.num_queries], states[:, self.num_queries :]


class QFormerConnector(Connector):
    """A Q-Former and a linear layer: a fixed number of tokens a view, whatever it holds.

    With a tokenizer the queries also read what is said about a medium (InstructBLIP), so that
    their tokens hold what was asked for; where nothing is said they read the medium alone.
    Without, they always do (BLIP-2), and what only text needs is not there.

    Source: arXiv:2301.12597 (BLIP-2); arXiv:2305.06500 (InstructBLIP). Sizes of the default are
    those of both, on BERT-base.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        num_queries: int = 32,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        cross_attention_frequency: int = 2,
        tokenizer: str | None = None,
        max_text_tokens: int = 128,
        dropout: float = 0.1,
        source: str | None = None,
    ) -> None:
        """Build the connector.

        Args:
            input_size: Width of the features.
            output_size: Width of the language model.
            num_queries: Tokens that a view becomes.
            hidden_size: Width inside.
            num_layers: Transformer layers.
            num_heads: Attention heads.
            intermediate_size: Width of the feed-forward layers, of which queries and text have one
                each.
            cross_attention_frequency: Every so many layers, from the first one on, the queries
                look at the features.
            tokenizer: Source of a BERT tokenizer, with which it reads text; none without.
            max_text_tokens: Tokens of a text that are read, its start and end included.
            dropout: While it trains.
            source: What it starts from: what ``QFormerStage`` wrote, or a BERT of these sizes. The
                linear layer is new, and with BERT also the queries and their look at the features.

        Raises:
            ValueError: sizes do not fit each other or the source, or the tokenizer is not BERT's.
        """
        super().__init__()
        self.qformer = QFormer(
            input_size,
            num_queries,
            hidden_size,
            num_layers,
            num_heads,
            intermediate_size,
            cross_attention_frequency,
            tokenizer,
            max_text_tokens,
            dropout,
        )
        if source is not None and not architectures.weightless():
            qformer_files.load(self.qformer, source)
        self.output_size = output_size
        self.needs_text = self.qformer.reads_text
        self.output = nn.Linear(hidden_size, output_size)

    def num_tokens(self, num_features: int) -> int:
        """As many as there are queries, whatever the number of features."""
        return self.qformer.num_queries

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, M, D_lm), with nothing said."""
        return self.connect(features, [Layout()] * len(features), [""] * len(features))

    def connect(
        self, features: Tensor, layouts: Sequence[Layout], texts: Sequence[str] | None
    ) -> Tensor:
        """Map the features of several media, each view with what is said about its medium.

        Args:
            features: (V, N, D_enc), the views of all media, medium by medium.
            layouts: Of the media; V views in all.
            texts: What is said about each medium; not looked at without a tokenizer.

        Returns:
            (V, M, D_lm).
        """
        if not self.needs_text:
            return self.output(self.qformer(features)[0])
        assert texts is not None and len(texts) == len(layouts), "each medium comes with a text"
        medium = [number for number, layout in enumerate(layouts) for _ in range(layout.num_views)]
        queries, words = self.qformer(
            features, *(each[medium] for each in self.qformer.tokenize(texts))
        )
        # NOTE: nobody looks at the last layer's text, but ranks wait for gradients of all weights.
        return self.output(queries + words.sum() * 0.0)
