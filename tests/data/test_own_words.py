"""The language model's own words: its own prose and answers, sampled once, without its adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_chain import tiny_chain

from nextgpt.data.own_words import OwnWords
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture(scope="module")
def chain(tiny: TinyParts) -> NextGPTModel:
    return tiny_chain(tiny)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NEXTGPT_CACHE", str(tmp_path))
    yield


def said(chain: NextGPTModel, **settings: int) -> OwnWords:
    source = OwnWords(**({"num_texts": 40, "num_tokens": 8} | settings))
    source.prepare(chain)
    return source


def test_prose_stands_alone_and_answers_follow_questions(chain: NextGPTModel) -> None:
    source = said(chain)
    conversations = [source.conversation(index) for index in range(len(source.texts))]
    roles = {tuple(message.role for message in c.messages) for c in conversations}
    assert roles == {("assistant",), ("user", "assistant")}
    assert all(message.text for c in conversations for message in c.messages)
    assert not any(message.media for c in conversations for message in c.messages)


def test_every_text_comes_once_a_round_and_rounds_differ(chain: NextGPTModel) -> None:
    source = said(chain)
    length = len(source.texts)
    rounds = [
        [
            [m.text for m in source.conversation(number).messages]
            for number in range(start, start + length)
        ]
        for start in (0, length)
    ]
    assert sorted(rounds[0]) == sorted(rounds[1])
    assert rounds[0] != rounds[1]
    assert rounds[0] == [
        [m.text for m in source.conversation(number).messages] for number in range(length)
    ]


def test_what_was_said_is_kept(
    chain: NextGPTModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = said(chain)
    monkeypatch.setattr(OwnWords, "_continued", None)
    assert said(chain).texts == first.texts
    assert len(list((tmp_path / "own_words").iterdir())) == 1


def test_another_seed_says_something_else(chain: NextGPTModel) -> None:
    assert said(chain).texts != said(chain, seed=1).texts


def test_the_adapter_has_no_say(tiny: TinyParts, tmp_path: Path) -> None:
    plain = said(tiny_chain(tiny)).texts
    changed = tiny_chain(tiny)
    changed.language_model.add_lora()
    with torch.no_grad():
        for parameter in changed.language_model.lora_parameters().values():
            parameter.fill_(0.5)
    for kept in (tmp_path / "own_words").iterdir():
        kept.unlink()
    assert said(changed).texts == plain


def test_texts_are_training_conversations(chain: NextGPTModel) -> None:
    source = said(chain)
    for index in range(8):
        plan = chain.prompter.training_plan(source.conversation(index))
        assert (plan.labels != -100).sum() > 1
        assert not plan.runs
