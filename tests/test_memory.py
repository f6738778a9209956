"""What is remembered changes no bit of a reply: the turns that two prompts start with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_chain import medium, tiny_chain
from torch import Tensor

from nextgpt.generation import NextGPT
from nextgpt.memory import Memory, Prompt
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
    turns = lengths[:3]
    lengths.clear()
    again = pieces(model, conversation())
    assert sum(turns) > 50
    assert lengths[0] == turns[-1], "more than its last turn"
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
            # To the bit: a seed gives the same media in a long chat and in a new one.
            assert ours == theirs if isinstance(ours, str) else torch.equal(ours, theirs)
        answer = "".join(piece for piece in found if isinstance(piece, str))
        talk.messages.append(Message("assistant", [answer]))
        talk.user(question)


def test_a_turn_more_costs_its_own_messages_alone(model: NextGPT, lengths: list[int]) -> None:
    talk = conversation()
    answer = "".join(p for p in pieces(model, talk, modalities=[]) if isinstance(p, str))
    talk.assistant(answer).user("And then?")
    plan = model.model.prompter.generation_plan(talk, 12)
    lengths.clear()
    pieces(model, talk)
    assert lengths[0] == len(plan.input_ids) - plan.answers[-2] < len(plan.input_ids) / 2


def test_an_edited_message_is_read_anew_from_there_on(model: NextGPT, lengths: list[int]) -> None:
    pieces(model, conversation())
    lengths.clear()
    talk = conversation("Something else entirely?")
    plan = model.model.prompter.generation_plan(talk, 12)
    pieces(model, talk)
    assert lengths[0] == len(plan.input_ids) - plan.answers[-2]


def test_another_medium_in_the_same_place_is_another_prompt(model: NextGPT) -> None:
    plans = [
        model.model.prompter.generation_plan(
            Conversation().user(picture, "What is this?").assistant("A dog.").user("Why?"), 8
        )
        for picture in (medium(Modality.IMAGE, 1), medium(Modality.IMAGE, 2))
    ]
    first, second = (Prompt.of(plan) for plan in plans)
    assert (plans[0].input_ids == plans[1].input_ids).all()
    assert first.shared(first) == first.answers[0]
    assert first.shared(second) == 0


def test_an_abandoned_reply_leaves_its_prompt_remembered(
    model: NextGPT, lengths: list[int]
) -> None:
    whole = pieces(NextGPT(model.model), conversation())
    stream = model.write([conversation()], max_new_tokens=12)
    next(stream)
    stream.close()
    plan = model.model.prompter.generation_plan(conversation(), 12)
    lengths.clear()
    assert pieces(model, conversation()) == whole
    assert lengths[0] == len(plan.input_ids) - plan.answers[-2], "more than its last turn"


def test_a_reply_that_fails_is_not_remembered(
    model: NextGPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.model.language_model, "logits", fail)
        with pytest.raises(KeyboardInterrupt):
            pieces(model, conversation())
    assert model.memory._read == []


def test_media_are_encoded_once(model: NextGPT, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces(model, conversation())
    monkeypatch.setattr(model.model.encoder, "encode", None)
    pieces(model, conversation("And this one?"))


def test_features_do_not_depend_on_the_company(model: NextGPT) -> None:
    picture, other = medium(Modality.IMAGE, 1), medium(Modality.IMAGE, 2)
    memory = Memory()
    found = memory.features(model.model, Modality.IMAGE, [picture, other, picture])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], Memory().features(model.model, Modality.IMAGE, [other])[0])
    assert not torch.equal(found[0], found[1])
    assert len(memory._features) == 2


def test_memory_is_bounded(model: NextGPT) -> None:
    model.memory = Memory(num_media=2, num_conversations=2)
    for seed in range(4):
        pieces(model, Conversation().user(medium(Modality.IMAGE, seed), "What is this?"))
    assert len(model.memory._features) == 2
    assert len(model.memory._read) == 2


def test_nothing_in_common_is_nothing_known(model: NextGPT) -> None:
    pieces(model, Conversation().user("Hello!"))
    plan = model.model.prompter.generation_plan(conversation(), 12)
    assert model.memory.recall(Prompt.of(plan)) == (0, None)
    assert len(model.memory._read) == 1
