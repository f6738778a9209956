"""Where an answer ends, and which spaces belong to it, is what the template says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tiny_chain import tiny_chain_config

from nextgpt import Conversation, NextGPT, configuration, writing
from nextgpt.modality import Modality

if TYPE_CHECKING:
    from conftest import TinyParts

Tell = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def model(tiny: TinyParts) -> NextGPT:
    """A chain with the template whose answers end with a line and three hash signs."""
    config = tiny_chain_config(tiny)
    config["language_model"]["template"] = "vicuna_v0"
    return NextGPT(configuration.build(config))


@pytest.fixture
def tell(model: NextGPT, monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Let the model choose the given tokens, and return what it writes."""

    def run(tokens: list[int], max_new_tokens: int = 256) -> list[Any]:
        chosen = iter(tokens)
        monkeypatch.setattr(writing, "_sample", lambda *arguments: next(chosen))
        pieces = model.write([Conversation().user("Hi")], max_new_tokens=max_new_tokens)
        found: list[Any] = []
        for _, piece in pieces:
            part = piece if isinstance(piece, str) else piece.modality
            if found and isinstance(part, str) and type(found[-1]) is type(part) is str:
                found[-1] += part
            else:
                found.append(part)
        assert next(chosen, None) is None, "the answer ended early"
        return found

    return run


def ids(model: NextGPT, text: str) -> list[int]:
    return model.model.language_model.tokenizer.encode(text, add_special_tokens=False)


def test_an_answer_ends_with_the_line_and_the_signs(model: NextGPT, tell: Tell) -> None:
    behind_words, behind_medium = model.model.prompter.ends
    assert len(behind_words) > 1
    for end in (behind_words, behind_medium):
        assert tell([*ids(model, " A dog."), *end]) == ["A dog."]


def test_the_start_of_an_end_is_text_where_no_end_comes_of_it(model: NextGPT, tell: Tell) -> None:
    end = model.model.prompter.ends[0]
    start = model.model.language_model.tokenizer.decode(end[:-1])
    tokens = [*ids(model, " A"), *end[:-1], *ids(model, "B"), *end]
    assert tell(tokens) == [f"A{start}B"]
    # An end that begins anew inside of one that has begun.
    assert tell([*ids(model, " A"), *end[:1], *end]) == ["A\n"]


def test_what_was_held_back_is_shown_before_a_medium_and_at_the_last_token(
    model: NextGPT, tell: Tell
) -> None:
    end = model.model.prompter.ends[0]
    signal = model.model.language_model.signals.run(Modality.IMAGE)[0]
    behind_medium = model.model.prompter.ends[-1]
    assert tell([*ids(model, " A"), end[0], signal, *behind_medium]) == ["A\n", Modality.IMAGE]
    words = [*ids(model, " A"), end[0]]
    assert tell([*words, 0], max_new_tokens=len(words)) == ["A\n"]


def test_a_forced_medium_stands_behind_the_words(
    model: NextGPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind_words, behind_medium = model.model.prompter.ends
    chosen = iter([*ids(model, " A"), *behind_words, *behind_medium])
    monkeypatch.setattr(writing, "_sample", lambda *arguments: next(chosen))
    pieces = model.write([Conversation().user("Hi")], modalities=["image"])
    found = [piece if isinstance(piece, str) else piece.modality for _, piece in pieces]
    assert "".join(found[:-1]) == "A"
    assert found[-1] is Modality.IMAGE
