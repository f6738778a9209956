"""Interleaved documents: which medium a text is about, what is learned, and how windows are cut."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_chain import medium
from tiny_parts import tiny_language_model

from nextgpt.base_model import tokenizer_of
from nextgpt.data.interleaved import Chunk, InterleavedDocuments, chunks, cut, window
from nextgpt.data.rows import Row, write_rows
from nextgpt.layout import Layout
from nextgpt.media import Image, Medium
from nextgpt.messages import Conversation, Part
from nextgpt.prompting import IGNORED, Prompter, SequencePlan
from nextgpt.signals import SignalVocabulary

pytestmark = pytest.mark.usefixtures("own_cache")

A, B, C, D = (medium("image", seed) for seed in range(4))


@pytest.fixture(scope="module")
def prompter(tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    tokenizer = tokenizer_of(tiny_language_model(tmp_path_factory.mktemp("language_model")))
    signals = SignalVocabulary(len(tokenizer), {}, ())
    return Prompter(tokenizer, "interleaved", signals, lambda _: (Layout(), 1), 512)


def words(text: str) -> int:
    """A token a word."""
    return len(text.split())


def spoken(conversation: Conversation) -> list[tuple[str, list[Part]]]:
    return [(message.role, message.parts) for message in conversation.messages]


# Which medium a text is about


def test_a_text_is_about_the_medium_before_it() -> None:
    lead, found = chunks(["zero ", A, " one", B, "two", "and more"])
    assert lead == "zero"
    assert found == [Chunk((A,), "one"), Chunk((B,), "twoand more")]


def test_looking_ahead_a_text_is_about_the_medium_behind_it() -> None:
    lead, found = chunks(["zero ", A, " one", B, "two"], looks_ahead=True)
    assert lead == ""
    assert found == [Chunk((A,), "zero"), Chunk((B,), "one")]


def test_media_without_text_come_with_the_next_one_that_has_some() -> None:
    document: list[Part] = ["zero", A, B, "one", C, " \n", D]
    assert chunks(document) == ("zero", [Chunk((A, B), "one")])
    assert chunks(document, looks_ahead=True)[1] == [Chunk((A,), "zero"), Chunk((B, C), "one")]


def test_without_media_nothing_is_about_any() -> None:
    assert chunks(["zero"]) == ("zero", [])
    assert chunks([], looks_ahead=True) == ("", [])


# What is learned


def written(prompter: Prompter, plan: SequencePlan) -> tuple[str, str]:
    """The sequence and what is learned of it, <image> where a medium stands."""
    tokenizer = prompter.tokenizer
    starts = {slot.start for slot in plan.slots}
    pieces = [
        "<image>" if position in starts else tokenizer.decode([token])
        for position, token in enumerate(plan.input_ids.tolist())
    ]
    learned = [
        piece if label != IGNORED else ""
        for piece, label in zip(pieces, plan.labels.tolist(), strict=True)
    ]
    return "".join(pieces), "".join(learned)


def test_labels_are_those_of_openflamingo(prompter: Prompter) -> None:
    lead, found = chunks(["a small dog", A, "the cat", B, C, "it barks"])
    plan = prompter.training_plan(window(lead, found, words, 256, 5))
    sequence, learned = written(prompter, plan)
    assert sequence == (
        "<|im_start|>a small dog<image>the cat<|im_end|><image><image>it barks<|im_end|>"
    )
    assert learned == "the cat<|im_end|>it barks<|im_end|>"
    assert [slot.medium for slot in plan.slots] == [A, B, C]


def test_text_between_the_end_of_a_chunk_and_the_next_medium_is_not_learned(
    prompter: Prompter,
) -> None:
    talk = Conversation().user(A).assistant("the cat").user("a dog", B).assistant("it barks")
    sequence, learned = written(prompter, prompter.training_plan(talk))
    assert sequence == "<|im_start|><image>the cat<|im_end|>a dog<image>it barks<|im_end|>"
    assert learned == "the cat<|im_end|>it barks<|im_end|>"


def test_an_answer_starts_where_it_does_in_training(prompter: Prompter) -> None:
    asked = Conversation().user(A).assistant("the cat").user(B)
    plan = prompter.generation_plan(asked, 16)
    whole = prompter.training_plan(asked.assistant("it barks"))
    assert plan.input_ids.tolist() == whole.input_ids[: len(plan.input_ids)].tolist()
    assert plan.answers == whole.answers


# Windows


def test_chunks_are_taken_whole_while_there_is_room() -> None:
    found = [Chunk((A,), "one two"), Chunk((B, C), "three four five"), Chunk((D,), "six")]
    # 1 for the start of the sequence, then 4, 6 and 3.
    sizes = {14: 3, 13: 2, 11: 2, 10: 1, 5: 1}
    for max_tokens, number in sizes.items():
        taken = spoken(window("", found, words, max_tokens, 5))
        wanted = [(each.media, each.text) for each in found[:number]]
        assert [(tuple(m), t[0]) for (_, m), (_, t) in zip(taken[::2], taken[1::2], strict=True)] \
            == wanted, max_tokens  # fmt: skip


def test_there_are_no_more_media_than_allowed() -> None:
    found = [Chunk((A,), "one"), Chunk((B, C), "two"), Chunk((D,), "three")]
    for max_media, seen in ((1, [A]), (2, [A]), (3, [A, B, C]), (4, [A, B, C, D])):
        talk = window("", found, words, 256, max_media)
        assert [each for message in talk.messages for each in message.media] == seen
    crowd = window("", [Chunk((A, B, C, D), "one")], words, 256, 2)
    assert spoken(crowd) == [("user", [C, D]), ("assistant", ["one"])]


def test_the_text_before_comes_along_where_it_leaves_the_first_chunk_whole() -> None:
    found = [Chunk((A,), "one two")]
    assert spoken(window("zero", found, words, 6, 5))[0] == ("user", ["zero", A])
    assert spoken(window("zero", found, words, 5, 5))[0] == ("user", [A])


def test_a_first_text_that_is_too_long_is_cut_behind_a_sentence() -> None:
    found = [Chunk((A,), "One two. Three four! Five six"), Chunk((B,), "seven")]
    talk = spoken(window("", found, words, 8, 5))
    assert talk == [("user", [A]), ("assistant", ["One two. Three four!"])]


@pytest.mark.parametrize(
    ("room", "wanted"),
    [
        (9, "One, two.  Three four. Five"),
        (5, "One, two.  Three four. Five"),
        (4, "One, two.  Three four."),
        (3, "One, two."),
        (1, "One,"),
        (0, ""),
    ],
)
def test_texts_are_cut_behind_sentences_else_behind_words(room: int, wanted: str) -> None:
    assert cut("One, two.  Three four. Five", room, words) == wanted


def test_a_word_that_is_too_long_is_cut_behind_a_letter() -> None:
    assert cut("incomprehensibilities", 5, len) == "incom"


# Documents of a manifest


def document(number: int, num_media: int = 9) -> Row:
    content = [{"type": "text", "text": f"about {number}"}]
    for index in range(num_media):
        content.append({"type": "image", "path": f"{number}-{index}.png"})
        content.append({"type": "text", "text": f"text {index} of {number}. " * (index + 1)})
    return Row(str(number), [{"role": "user", "content": content}])


def source_of(
    folder: Path, rows: list[Row], prompter: Prompter, **options: int
) -> InterleavedDocuments:
    write_rows(folder / "manifest.jsonl", rows)
    source = InterleavedDocuments(folder / "manifest.jsonl", **options)
    source.prepare(SimpleNamespace(language_model=SimpleNamespace(tokenizer=prompter.tokenizer)))
    return source


def place(shown: Medium) -> tuple[int, int]:
    """Document and number of a picture."""
    assert isinstance(shown, Image) and shown.path is not None
    number, index = shown.path.stem.split("-")
    return int(number), int(index)


def test_windows_hold_at_most_so_many_tokens_and_media_of_one_document(
    tmp_path: Path, prompter: Prompter
) -> None:
    source = source_of(tmp_path, [document(number) for number in range(6)], prompter)
    lengths, starts, ahead = [], set(), 0
    for index in range(120):
        talk = source.conversation(index)
        plan = prompter.training_plan(talk)
        lengths.append(len(plan.input_ids))
        assert 1 <= len(plan.slots) <= 5
        places = [place(slot.medium) for slot in plan.slots]
        (number,) = {number for number, _ in places}
        assert [index for _, index in places] == list(
            range(places[0][1], places[0][1] + len(places))
        )
        starts.add(places[0][1])
        first = talk.messages[1].text
        looks_ahead = not first.startswith(f"text {places[0][1]} of {number}")
        ahead += looks_ahead
        if looks_ahead:
            wanted = f"text {places[0][1] - 1} of" if places[0][1] else f"about {number}"
            assert first.startswith(wanted)
    assert max(lengths) <= 256
    assert sum(length > 128 for length in lengths) > 60
    assert starts == set(range(9))
    assert 40 < ahead < 80


def test_a_window_is_the_same_whenever_it_is_asked_for(tmp_path: Path, prompter: Prompter) -> None:
    rows = [document(number) for number in range(6)]
    source = source_of(tmp_path, rows, prompter)
    first = [spoken_names(source.conversation(index)) for index in range(24)]
    again = [spoken_names(source.conversation(index)) for index in reversed(range(24))]
    assert again[::-1] == first
    assert len({str(each) for each in first}) > 20
    other = source_of(tmp_path, rows, prompter, seed=1)
    assert [spoken_names(other.conversation(index)) for index in range(24)] != first


def spoken_names(conversation: Conversation) -> list[object]:
    return [
        part if isinstance(part, str) else place(part)
        for message in conversation.messages
        for part in message.parts
    ]


def test_a_document_that_looks_one_way_only_is_read_that_way(
    tmp_path: Path, prompter: Prompter
) -> None:
    picture = {"type": "image", "path": "0-0.png"}
    text = {"type": "text", "text": "It barks."}
    for content in ([picture, text], [text, picture]):
        row = Row("0", [{"role": "user", "content": content}])
        source = source_of(tmp_path, [row], prompter)
        for index in range(8):
            assert spoken_names(source.conversation(index)) == [(0, 0), "It barks."]


def test_a_document_without_a_medium_that_text_is_about_is_refused(
    tmp_path: Path, prompter: Prompter
) -> None:
    row = Row("0", [{"role": "user", "content": [{"type": "text", "text": "It barks."}]}])
    with pytest.raises(ValueError, match="no medium with a text beside it.*It barks"):
        source_of(tmp_path, [row], prompter).conversation(0)


def test_windows_without_room_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_tokens is 7 and max_media 5"):
        InterleavedDocuments(tmp_path, max_tokens=7)
    with pytest.raises(ValueError, match="max_media 0"):
        InterleavedDocuments(tmp_path, max_media=0)


def test_all_media_are_known_beforehand_and_none_is_asked_for(
    tmp_path: Path, prompter: Prompter
) -> None:
    rows = [document(number, 2) for number in range(3)]
    source = source_of(tmp_path, rows, prompter, precompute=True)
    assert {place(each) for each in source.media()} == {(n, i) for n in range(3) for i in range(2)}
    assert source.captions() == []
    assert source.provenance()["max_tokens"] == 256
