"""Soft tokens before an encoder-decoder language model, such as FlanT5."""

from typing import Any

import torch
from torch import Tensor

from nextgpt.prompting import IGNORED


def prefix_lm_loss(
    seq2seq_model: Any,
    soft_tokens: Tensor,
    prefix_ids: Tensor,
    prefix_mask: Tensor,
    target_ids: Tensor,
) -> Tensor:
    """Cross-entropy of what the decoder writes when the encoder reads media and the words before.

    Shapes: B rows, M soft tokens, P places of the prefix, T places of the target, D width.

    Args:
        seq2seq_model: Of transformers' ``AutoModelForSeq2SeqLM``.
        soft_tokens: (B, M, D) of a connector.
        prefix_ids: (B, P) int64 words that follow them; P may be 0.
        prefix_mask: (B, P), 1 where there is a token.
        target_ids: (B, T) int64, its end included; the model's padding, or -100, is not learned.

    Returns:
        Scalar, mean of the learned tokens.

    Raises:
        ValueError: the soft tokens have not the width of the model.

    Source: arXiv:2301.12597 (BLIP-2), section 3.3.
    """
    embed = seq2seq_model.get_input_embeddings()
    if soft_tokens.shape[-1] != embed.embedding_dim:
        raise ValueError(
            f"soft tokens are {soft_tokens.shape[-1]} wide and the language model "
            f"{embed.embedding_dim}; build the connector with the language model's width"
        )
    prefix = embed(prefix_ids)
    ones = prefix_mask.new_ones(soft_tokens.shape[:2])
    padding = seq2seq_model.config.pad_token_id
    return seq2seq_model(
        inputs_embeds=torch.cat([soft_tokens.to(prefix.dtype), prefix], dim=1),
        attention_mask=torch.cat([ones, prefix_mask], dim=1),
        labels=target_ids.masked_fill(target_ids == padding, IGNORED),
    ).loss
