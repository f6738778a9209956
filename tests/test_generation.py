"""Replies: signal runs are whole, media are forced and forbidden, seeds repeat, order holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_chain import medium, tiny_chain
from torch import Tensor

from nextgpt.events import (
    Done,
    Event,
    MediaFinished,
    MediaProgress,
    MediaStarted,
    TextDelta,
)
from nextgpt.generation import NextGPT
from nextgpt.memory import Memory
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.writing import Written, _TextPieces

if TYPE_CHECKING:
    from conftest import TinyParts

# Behind the 300 words of the tiny model, in the order of the MODALITIES table.
RUNS = {
    Modality.IMAGE: [300, 301],
    Modality.AUDIO: [302, 303, 304],
    Modality.VIDEO: [305, 306, 307, 308],
}
QUESTION = Conversation().user("Draw, play and film a dog.")
SEEDS = range(8)


@pytest.fixture(scope="module")
def plain(tiny: TinyParts) -> NextGPT:
    """A model that rarely asks for a medium."""
    return NextGPT(tiny_chain(tiny))


@pytest.fixture(scope="module")
def eager(tiny: TinyParts) -> NextGPT:
    """A model whose weights are drawn by ``redraw``."""
    return NextGPT(tiny_chain(tiny))


def redraw(model: NextGPT, seed: int) -> NextGPT:
    """Draw another model that would write signal tokens of all kinds, in any order, if it could."""
    generator = torch.Generator().manual_seed(seed)
    language_model = model.model.language_model
    with torch.no_grad():
        for parameter in language_model.llm.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=generator)
        language_model.signal_rows["input"].normal_(0, 1.2, generator=generator)
        language_model.llm.get_input_embeddings().weight[model.model.prompter.end_id] = 0
    model.memory = Memory()
    return model


@pytest.fixture
def fed(eager: NextGPT, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the language model of ``eager`` is given: the prompt, then piece by piece its reply."""
    pieces: list[list[int]] = []
    embed = eager.model.language_model.embed

    def recorded(input_ids: Tensor) -> Tensor:
        pieces.append(input_ids[0].tolist())
        return embed(input_ids)

    monkeypatch.setattr(eager.model.language_model, "embed", recorded)
    return pieces


def parsed(ids: list[int]) -> list[list[int] | Modality]:
    """Stretches of words and whole runs, in order; anything else fails."""
    found: list[list[int] | Modality] = []
    while ids:
        if ids[0] < 300:
            if not found or not isinstance(found[-1], list):
                found.append([])
            found[-1].append(ids.pop(0))  # type: ignore[union-attr]
            continue
        started = [modality for modality, run in RUNS.items() if run[0] == ids[0]]
        assert started, f"{ids[0]} starts no run"
        run = RUNS[started[0]]
        assert ids[: len(run)] == run
        del ids[: len(run)]
        found.append(started[0])
    return found


def joined(pieces: Iterator[Any]) -> list[str | Modality]:
    """Parts of a reply: text in one piece, and the modality of what was asked for."""
    parts: list[str | Modality] = []
    for piece in pieces:
        if not isinstance(piece, str):
            parts.append(piece.modality)
        elif parts and type(parts[-1]) is str:
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts


def written(model: NextGPT, conversation: Conversation, **options: Any) -> Iterator[Written]:
    """The pieces of one reply."""
    return (piece for _, piece in model.write([conversation], **options))


def reply_of(model: NextGPT, seed: int, **options: Any) -> list[str | Modality]:
    """What another model, drawn from ``seed``, answers with that seed."""
    return joined(written(redraw(model, seed), QUESTION, seed=seed, **options))


# Signal runs


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_a_malformed_run_cannot_be_written(
    eager: NextGPT, fed: list[list[int]], temperature: float
) -> None:
    asked: list[Modality] = []
    for seed in SEEDS:
        fed.clear()
        reply = reply_of(eager, seed, max_new_tokens=30, temperature=temperature)
        read = parsed([token for piece in fed[1:] for token in piece])
        tokenizer = eager.model.language_model.tokenizer
        texts = [tokenizer.decode(p, skip_special_tokens=True) for p in read if type(p) is list]
        runs = [p for p in read if isinstance(p, Modality)]
        assert [p for p in reply if isinstance(p, Modality)] == runs
        assert [p for p in reply if not isinstance(p, Modality)] == [t for t in texts if t]
        asked += runs
    assert set(asked) == set(RUNS)


def test_a_run_is_finished_where_the_reply_must_end(eager: NextGPT, fed: list[list[int]]) -> None:
    for seed in SEEDS:
        fed.clear()
        reply_of(eager, seed, max_new_tokens=1, temperature=3.0)
        assert len(parsed([token for piece in fed[1:] for token in piece])) <= 1
        assert sum(len(piece) > 1 for piece in fed[1:]) <= 1


def test_a_medium_is_conditioned_on_what_was_asked(plain: NextGPT) -> None:
    first, second = (
        next(
            piece.conditioning
            for piece in written(plain, Conversation().user(text), modalities=["image"])
            if not isinstance(piece, str)
        )
        for text in ("a dog", "a cat")
    )
    assert first.shape == (1, 8, 32)
    assert not torch.allclose(first, second, atol=1e-4)


# Side by side


def test_replies_written_side_by_side_are_those_written_alone(eager: NextGPT) -> None:
    shown = [medium("image"), "and", medium("audio"), "draw, play and film them"]
    conversations = [
        Conversation().user("Draw a dog."),
        Conversation().user(*shown),
        QUESTION,
        Conversation().user("a cat").assistant("Here it is.").user("Now play a long low note."),
    ]
    lengths, media = set(), 0
    for seed in SEEDS:
        redraw(eager, seed)
        together: list[list[Written]] = [[] for _ in conversations]
        for number, piece in eager.write(conversations, max_new_tokens=24):
            together[number].append(piece)
        for pieces, conversation in zip(together, conversations, strict=True):
            alone = list(written(eager, conversation, max_new_tokens=24))
            assert joined(iter(pieces)) == joined(iter(alone))
            for ours, theirs in zip(pieces, alone, strict=True):
                if not isinstance(ours, str) and not isinstance(theirs, str):
                    torch.testing.assert_close(ours.conditioning, theirs.conditioning)
                    media += 1
            lengths.add(len(pieces))
    assert media > 10 and len(lengths) > 3


# Forced and forbidden


@pytest.mark.parametrize("modalities", [["image"], ["video", "audio"], ["image", "audio", "video"]])
def test_forced_media_all_come_and_no_others(eager: NextGPT, modalities: list[str]) -> None:
    for seed in SEEDS:
        reply = reply_of(eager, seed, modalities=modalities, max_new_tokens=12, temperature=1.0)
        assert {part for part in reply if isinstance(part, Modality)} == set(modalities)


@pytest.mark.parametrize("modalities", [[], ["text"]])
def test_forbidden_media_never_come(eager: NextGPT, modalities: list[str]) -> None:
    for seed in SEEDS:
        reply = reply_of(eager, seed, modalities=modalities, max_new_tokens=20, temperature=3.0)
        assert [type(part) for part in reply] in ([str], [])


def test_each_modality_is_asked_for_forbidden_or_left_open(eager: NextGPT) -> None:
    choice, found = {"image": True, "video": False}, set()
    for seed in SEEDS:
        reply = reply_of(eager, seed, modalities=choice, max_new_tokens=12, temperature=1.0)
        found |= set(reply) & set(Modality)
        assert Modality.IMAGE in reply and Modality.VIDEO not in reply
    assert Modality.AUDIO in found, "what is left open may come"


def test_a_modality_that_there_is_not_is_named(plain: NextGPT) -> None:
    for options in ({"modalities": {"smell": True}}, {"decoding": {"smell": {}}}):
        with pytest.raises(ValueError, match="cannot answer in 'smell'"):
            list(plain.stream(QUESTION, **options))


def test_steps_and_previews_are_those_asked_for(plain: NextGPT) -> None:
    events = plain.stream(
        QUESTION,
        modalities=["image", "audio"],
        max_new_tokens=2,
        decoding={"image": {"num_inference_steps": 5}},
        preview_every=2,
    )
    progress = [event for event in events if isinstance(event, MediaProgress)]
    picture = [event for event in progress if event.index == 0]
    assert [event.step for event in picture] == [1, 2, 3, 4, 5]
    assert [event.preview is not None for event in picture] == [False, True, False, True, False]
    assert {event.total for event in progress if event.index == 1} == {2}
    with pytest.raises(ValueError, match="'steps' is unknown"):
        list(plain.stream(QUESTION, decoding={"image": {"steps": 5}}))


def test_what_the_model_owes_comes_at_the_end_in_the_order_of_the_table(plain: NextGPT) -> None:
    options: dict[str, Any] = {"max_new_tokens": 4}
    free = joined(written(plain, QUESTION, modalities=[], **options))
    owing = joined(written(plain, QUESTION, modalities=["video", "image", "audio"], **options))
    assert owing == [*free, *RUNS]


# Seeds


def test_the_same_seed_writes_the_same_reply_and_others_differ(eager: NextGPT) -> None:
    redraw(eager, 0)
    options: dict[str, Any] = {"max_new_tokens": 20, "temperature": 1.0}
    replies = [joined(written(eager, QUESTION, seed=seed, **options)) for seed in (1, 1, 2, 3)]
    assert replies[0] == replies[1]
    assert replies[0] != replies[2] != replies[3] != replies[0]


# Events and order


def test_parts_stand_in_the_order_in_which_they_were_written(eager: NextGPT) -> None:
    options: dict[str, Any] = {"max_new_tokens": 16, "temperature": 2.0}
    for seed in range(100):
        parts = reply_of(eager, seed, **options)
        texts = [type(part) is str for part in parts]
        if texts[:3] == [True, False, True] and texts.count(False) > 1:
            break
    events: list[Event] = list(eager.stream(QUESTION, seed=seed, **options))
    assert isinstance(events[-1], Done)
    message: Message = events[-1].message
    assert [part if isinstance(part, str) else part.modality for part in message.parts] == parts
    assert [type(part) is str for part in message.parts[:3]] == [True, False, True]
    assert len(message.media) > 1
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(deltas) == "".join(part for part in message.parts if isinstance(part, str))
    started = [event for event in events if isinstance(event, MediaStarted)]
    assert [event.modality for event in started] == [each.modality for each in message.media]
    finished = [event for event in events if isinstance(event, MediaFinished)]
    assert [event.part for event in finished] == message.media
    assert [event.index for event in started] == list(range(len(message.media)))
    assert [event.index for event in finished] == list(range(len(message.media)))
    assert len(QUESTION.messages) == 1


def test_an_abandoned_reply_stops_rendering(
    plain: NextGPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = plain.model.decoders[Modality.IMAGE]
    monkeypatch.setattr(decoder, "num_inference_steps", 200)
    decode, steps = decoder.decode, []

    def counted(*arguments: Any, on_step: Any, **options: Any) -> Any:
        def count(step: int, *rest: Any) -> None:
            steps.append(step)
            on_step(step, *rest)

        return decode(*arguments, on_step=count, **options)

    monkeypatch.setattr(decoder, "decode", counted)
    stream = plain.stream(QUESTION, modalities=["image"], max_new_tokens=2)
    next(event for event in stream if isinstance(event, MediaProgress))
    stream.close()  # type: ignore[attr-defined]
    assert 0 < len(steps) < 200


def test_a_second_picture_cannot_be_begun_in_the_middle_of_a_first(plain: NextGPT) -> None:
    options: dict[str, Any] = {"modalities": ["image"], "max_new_tokens": 2}
    stream = plain.stream(QUESTION, **options)
    next(event for event in stream if isinstance(event, MediaProgress))
    with pytest.raises(RuntimeError, match="close the reply that it belongs to first"):
        plain.chat(QUESTION, **options)
    stream.close()
    assert plain.chat(QUESTION, **options).images


def test_text_goes_on_while_media_render(eager: NextGPT, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"max_new_tokens": 16, "temperature": 2.0}
    for seed in range(100):
        parts = reply_of(eager, seed, **options)
        if [type(part) is str for part in parts[-2:]] == [False, True]:
            break
    events = list(eager.stream(QUESTION, seed=seed, **options))
    kinds = [type(event) for event in events]
    rest = kinds[kinds.index(MediaProgress) : kinds.index(MediaFinished)]
    assert TextDelta in rest, "the text waits for the media"
    assert rest.count(MediaProgress) > 1, "the media wait for the text"


def test_a_decoder_that_fails_ends_the_reply_with_its_error(
    plain: NextGPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain.model.decoders[Modality.AUDIO], "num_inference_steps", 0)
    stream = plain.stream(QUESTION, modalities=["image", "audio", "video"], max_new_tokens=2)
    with pytest.raises(ValueError, match="num_inference_steps is 0"):
        list(stream)
    assert isinstance(list(plain.stream(QUESTION, modalities=["image"]))[-1], Done)


def test_text_is_streamed_in_whole_characters(plain: NextGPT) -> None:
    tokenizer = plain.model.language_model.tokenizer
    text = "äß 🎻 dog, 犬"
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = _TextPieces(tokenizer, gap="")
    shown = [pieces.add([token]) for token in ids]
    assert len(ids) > len(text)
    assert "".join(shown) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in shown)
    assert pieces.finish() == ""
