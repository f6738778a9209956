"""Soft tokens before a tiny random T5, against calling it by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from nextgpt.bridges.seq2seq import prefix_lm_loss

WIDTH = 16


@pytest.fixture(scope="module")
def t5() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=24,
        d_model=WIDTH,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval()


SOFT = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))
PREFIX = torch.tensor([[5, 6, 7], [8, 0, 0]])
TARGET = torch.tensor([[9, 10, 1], [11, 1, 0]])


def test_it_is_the_model_called_by_hand_row_by_row(t5: T5ForConditionalGeneration) -> None:
    loss = prefix_lm_loss(t5, SOFT, PREFIX, (PREFIX > 0).long(), TARGET)
    losses = []
    for soft, prefix, target in zip(SOFT, PREFIX, TARGET, strict=True):
        prefix, target = prefix[prefix > 0], target[target > 0]
        states = t5.encoder(inputs_embeds=torch.cat([soft, t5.shared(prefix)])[None])
        logits = t5(
            encoder_outputs=states,
            decoder_input_ids=torch.cat([torch.zeros(1, dtype=torch.long), target[:-1]])[None],
        ).logits[0]
        losses += functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(loss, torch.stack(losses).mean(), atol=1e-5, rtol=0)  # worst: 5e-7


def test_both_marks_of_what_is_not_learned_are_the_same(t5: T5ForConditionalGeneration) -> None:
    mask = (PREFIX > 0).long()
    marked = TARGET.masked_fill(TARGET == 0, -100)
    assert torch.equal(
        prefix_lm_loss(t5, SOFT, PREFIX, mask, TARGET),
        prefix_lm_loss(t5, SOFT, PREFIX, mask, marked),
    )


def test_soft_tokens_learn_and_may_stand_alone(t5: T5ForConditionalGeneration) -> None:
    soft = SOFT.clone().requires_grad_()
    nothing = PREFIX[:, :0]
    prefix_lm_loss(t5, soft, nothing, nothing, TARGET).backward()
    assert soft.grad is not None and soft.grad.abs().amax(dim=-1).gt(0).all()


def test_another_width_is_refused_with_both_numbers(t5: T5ForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="20 wide .* 16"):
        prefix_lm_loss(t5, torch.zeros(2, 3, 20), PREFIX, PREFIX, TARGET)
