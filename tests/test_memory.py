"""What is remembered gives the same replies, and is the longest start that two prompts share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_chain import medium, tiny_chain
from torch import Tensor

from nextgpt.generation import NextGPT
from nextgpt.memory import Memory, prompt_of
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.writing import MediumRequest

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture
def model(tiny: TinyParts) -> NextGPT:
    return NextGPT(tiny_chain(tiny))


@pytest.fixture
def lengths(model: NextGPT, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many positions the language model reads at a time."""
    found: list[int] = []
    forward = model.model.language_model.forward

    def counted(inputs_embeds: Tensor, *arguments: Any, **options: Any) -> Tensor:
        found.append(inputs_embeds.shape[1])
        return forward(inputs_embeds, *arguments, **options)

    monkeypatch.setattr(model.model.language_model, "forward", counted)
    return found


def conversation(*extra: Any) -> Conversation:
    """Four turns with a picture, a sound and a clip; the model's own media among them."""
    picture, sound, clip = (medium(Modality(name), 3) for name in ("image", "audio", "video"))
    talk = Conversation().user(picture, "What is this?").assistant("A dog.", sound)
    return talk.user("And this?", clip).assistant("It moves.").user(*(extra or ("Why?",)))


def pieces(model: NextGPT, talk: Conversation, **options: Any) -> list[Any]:
    found = []
    for _, piece in model.write([talk], **({"max_new_tokens": 12} | options)):
        found.append(piece.conditioning if isinstance(piece, MediumRequest) else piece)
    return found


def test_the_same_prompt_is_read_once(model: NextGPT, lengths: list[int]) -> None:
    first = pieces(model, conversation())
    prompt = lengths[0]
    lengths.clear()
    again = pieces(model, conversation())
    assert prompt > 50
    assert lengths[0] == 1, "only the token behind which the reply starts"
    assert again == first


@pytest.mark.parametrize("options", [{"modalities": ["image", "audio"]}, {"temperature": 1.5}])
def test_replies_from_memory_are_those_without(
    tiny: TinyParts, model: NextGPT, options: dict[str, Any]
) -> None:
    """A chat of three turns, each answered by a model that remembers and by a fresh one."""
    talk = conversation()
    for question in ("Draw it.", "Once more, larger.", "Thank you."):
        found = pieces(model, talk, seed=4, **options)
        fresh = pieces(NextGPT(tiny_chain(tiny)), talk, seed=4, **options)
        assert [type(piece) for piece in found] == [type(piece) for piece in fresh]
        for ours, theirs in zip(found, fresh, strict=True):
            if isinstance(ours, str):
                assert ours == theirs
            else:
                # Worst: 2e-6, the order of sums.
                torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        answer = "".join(piece for piece in found if isinstance(piece, str))
        talk.messages.append(Message("assistant", [answer]))
        talk.user(question)


def test_a_turn_more_costs_its_own_tokens_alone(model: NextGPT, lengths: list[int]) -> None:
    talk = conversation()
    answer = "".join(p for p in pieces(model, talk, modalities=[]) if isinstance(p, str))
    talk.assistant(answer).user("And then?")
    whole = len(model.model.prompter.generation_plan(talk, 12).input_ids)
    lengths.clear()
    pieces(model, talk)
    # What was written may be split into other tokens when it is read.
    assert lengths[0] < whole / 2


def test_an_edited_message_is_read_anew_from_there_on(model: NextGPT, lengths: list[int]) -> None:
    pieces(model, conversation())
    lengths.clear()
    pieces(model, conversation("Something else entirely?"))
    assert 1 < lengths[0] < 60


def test_another_medium_in_the_same_place_is_another_prompt(model: NextGPT) -> None:
    plans = [
        model.model.prompter.generation_plan(Conversation().user(picture, "What is this?"), 8)
        for picture in (medium(Modality.IMAGE, 1), medium(Modality.IMAGE, 2))
    ]
    first, second = (prompt_of(plan) for plan in plans)
    start = plans[0].slots[0].start
    assert first[:start] == second[:start]
    assert first[start] != second[start]
    assert (plans[0].input_ids == plans[1].input_ids).all()


def test_an_abandoned_reply_is_remembered_as_far_as_it_was_read(
    model: NextGPT, lengths: list[int]
) -> None:
    stream = model.write([conversation()], max_new_tokens=12)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    lengths.clear()
    pieces(model, conversation())
    assert lengths[0] == 1


def test_media_are_encoded_once(model: NextGPT, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces(model, conversation())
    monkeypatch.setattr(model.model.encoder, "encode", None)
    pieces(model, conversation("And this one?"))


def test_equal_media_of_one_call_are_encoded_together(model: NextGPT, tmp_path: Path) -> None:
    picture, other = medium(Modality.IMAGE, 1), medium(Modality.IMAGE, 2)
    memory = Memory()
    found = memory.features(model.model, Modality.IMAGE, [picture, other, picture])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert len(memory._features) == 2


def test_memory_is_bounded(model: NextGPT) -> None:
    memory = Memory(num_media=2, num_conversations=2)
    for seed in range(4):
        memory.features(model.model, Modality.IMAGE, [medium(Modality.IMAGE, seed)])
    assert len(memory._features) == 2
    for number in range(4):
        memory.keep([number, 1], None)
    assert [read[0] for read, _ in memory._read] == [2, 3]


def test_nothing_in_common_is_nothing_known() -> None:
    memory = Memory()
    memory.keep([1, 2, 3], None)
    assert memory.recall([9, 2, 3]) == (0, None)
    assert len(memory._read) == 1
