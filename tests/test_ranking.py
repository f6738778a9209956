"""Ranking answers: the same numbers as one by one and token by token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_chain import batch_of, medium, tiny_chain

from nextgpt.generation import NextGPT
from nextgpt.messages import Conversation
from nextgpt.ranking import rank_candidates

if TYPE_CHECKING:
    from conftest import TinyParts

CANDIDATES = ["a dog", "a small cat on the left", "It is a violin, low and slow.", "a dog"]


@pytest.fixture(scope="module")
def model(tiny: TinyParts) -> NextGPT:
    return NextGPT(tiny_chain(tiny))


def asked() -> Conversation:
    """A question behind an answered one, whose answer must not count."""
    talk = Conversation().user("Hello", medium("image", 1)).assistant("Hello there!")
    return talk.user("What is this?", medium("image"))


@torch.inference_mode()
def by_hand(model: NextGPT, candidate: str) -> list[float]:
    """Log-probability of each token, read one place after the other in a pass of its own."""
    chain = model.model
    prompt = chain.prompter.generation_plan(asked(), reserve=0).input_ids
    batch = batch_of(chain, [asked().assistant(candidate)])
    states = chain.language_model(chain.assemble(batch).embeds, batch.attention_mask)
    end = len(prompt)
    tokens = chain.prompter._encode(candidate, follows=True) + chain.prompter.ends[0]
    assert batch.input_ids[0, end : end + len(tokens)].tolist() == tokens
    return [
        float(chain.language_model.logits(states[0, end + place - 1]).log_softmax(-1)[token])
        for place, token in enumerate(tokens)
    ]


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_are_those_of_one_answer_after_the_other(
    model: NextGPT, normalise: bool, batch_size: int
) -> None:
    expected = {}
    for candidate in CANDIDATES:
        scores = by_hand(model, candidate)
        expected[candidate] = sum(scores) / (len(scores) if normalise else 1)
    ranked = rank_candidates(model, asked(), CANDIDATES, normalise, batch_size)
    assert sorted(name for name, _ in ranked) == sorted(CANDIDATES)
    for name, score in ranked:
        assert score == pytest.approx(expected[name], abs=1e-4)  # worst: 1.4e-6
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True)


def test_the_order_given_changes_no_score(model: NextGPT) -> None:
    first = dict(rank_candidates(model, asked(), CANDIDATES))
    second = dict(rank_candidates(model, asked(), CANDIDATES[::-1]))
    assert first == pytest.approx(second, abs=1e-4)


def test_another_medium_gives_other_scores(model: NextGPT) -> None:
    other = Conversation([*asked().messages[:-1]]).user("What is this?", medium("audio"))
    (_, score), (_, other_score) = (
        rank_candidates(model, each, ["a dog"])[0] for each in (asked(), other)
    )
    assert abs(score - other_score) > 1e-3  # measured 0.012


def test_the_conversation_is_left_as_it_is(model: NextGPT) -> None:
    conversation = asked()
    rank_candidates(model, conversation, ["a dog"])
    assert len(conversation.messages) == 3


@pytest.mark.parametrize(
    ("candidates", "message"),
    [([], "no candidates"), (["a dog", " "], "candidate 1 is ' '"), ([""], "candidate 0 is ''")],
)
def test_what_is_no_answer_is_refused(model: NextGPT, candidates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_candidates(model, asked(), candidates)


def test_a_signal_token_is_no_answer(model: NextGPT) -> None:
    name = model.model.language_model.signals.signal_names[0]
    with pytest.raises(ValueError, match=re.escape(name)):
        rank_candidates(model, asked(), [f"a dog {name}"])


def test_a_conversation_that_is_answered_is_refused(model: NextGPT) -> None:
    with pytest.raises(ValueError, match="from the user"):
        rank_candidates(model, asked().assistant("a dog"), ["a cat"])
