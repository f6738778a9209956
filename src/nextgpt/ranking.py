"""Which of some answers a model finds likeliest: multiple choice and classification."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from nextgpt.collate import collate
from nextgpt.generation import NextGPT
from nextgpt.messages import Conversation
from nextgpt.model import NextGPTModel
from nextgpt.prompting import IGNORED, SequencePlan


@torch.inference_mode()
def rank_candidates(
    model: NextGPT,
    conversation: Conversation,
    candidates: Sequence[str],
    normalise: bool = False,
    batch_size: int = 16,
) -> list[tuple[str, float]]:
    """Rank answers to the last message of a conversation, which is left as it is.

    Args:
        model: Whose likelihood decides.
        conversation: Ends with a user message.
        candidates: Possible answers.
        normalise: Divide by the number of tokens, so that long answers are not behind for that.
        batch_size: Answers that are read at once.

    Returns:
        Candidates with the natural logarithm of the probability that the model answers just that,
        the end of the answer included; the likeliest first, equal ones in the order given.

    Raises:
        ValueError: there is no candidate, one is empty or spells a signal token, or the
            conversation does not end with a user message or is too long.

    Source: arXiv:2305.06500 (InstructBLIP), section 2.6.
    """
    if not candidates:
        raise ValueError("there are no candidates to rank; give one or more")
    for number, candidate in enumerate(candidates):
        if not candidate.strip():
            raise ValueError(
                f"candidate {number} is {candidate!r}, which says nothing; leave it out"
            )
    messages = conversation.messages
    if not messages or messages[-1].role != "user":
        raise ValueError("the last message of the conversation must be from the user")
    chain = model.model
    for text in [*(each.text for each in messages if each.role != "assistant"), *candidates]:
        chain.language_model.signals.reject_in(text)
    plans = [_plan(chain, conversation, candidate) for candidate in candidates]
    # Answers of one length side by side: padding costs time.
    order = sorted(range(len(plans)), key=lambda index: len(plans[index].input_ids))
    scores = [0.0] * len(plans)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        found = _log_likelihoods(model, [plans[index] for index in chosen], normalise)
        for index, score in zip(chosen, found.tolist(), strict=True):
            scores[index] = score
    ranked = zip(candidates, scores, strict=True)
    return sorted(ranked, key=lambda pair: pair[1], reverse=True)


def _plan(chain: NextGPTModel, conversation: Conversation, candidate: str) -> SequencePlan:
    """Plan an answer, of whose conversation nothing but the answer is learned."""
    answered = Conversation([*conversation.messages]).assistant(candidate)
    plan = chain.prompter.training_plan(answered)
    plan.labels[: plan.answers[-1]] = IGNORED
    return plan


def _log_likelihoods(model: NextGPT, plans: list[SequencePlan], normalise: bool) -> Tensor:
    """(B,) float64 of what the plans learn."""
    chain = model.model
    batch = collate(plans, partial(model.memory.features, chain)).to(chain.device)
    chain.placement.wake(chain.language_model)
    output = chain(batch)
    losses = functional.cross_entropy(output.logits, output.labels, reduction="none").double()
    counts = (batch.labels != IGNORED).sum(dim=1)
    sums = torch.stack([each.sum() for each in losses.split(counts.tolist())])
    return -sums / counts if normalise else -sums
