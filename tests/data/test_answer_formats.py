"""In which form an answer is wanted: prompts, options, and questions that ask for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from chunk_rows import manifest_of_media

from nextgpt.data.answer_formats import PROMPTS, AnswerFormat, options_text, rotations, with_format
from nextgpt.data.chunked_conversations import ChunkedConversations
from nextgpt.data.chunks import optimize
from nextgpt.data.manifest_conversations import ManifestConversations
from nextgpt.data.row_conversations import RowConversations
from nextgpt.data.rows import Row, write_rows
from nextgpt.messages import Message

pytestmark = pytest.mark.usefixtures("own_cache")
SHORT = "Answer the question using a single word or phrase."


def test_the_prompt_stands_on_a_line_of_its_own() -> None:
    assert with_format("What is it? ", "short") == f"What is it?\n{SHORT}"
    assert with_format("", "caption") == "Provide a one-sentence caption for the provided image."
    question = with_format("Which?\n" + options_text(["a cat", "a dog"]), "letter")
    assert question.splitlines() == ["Which?", "A. a cat", "B. a dog", PROMPTS["letter"]]


def test_an_unknown_format_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"'long' is unknown; .* short, letter, caption, region"):
        with_format("What?", "long")  # type: ignore[arg-type]


def test_rotated_options_make_every_letter_right_once() -> None:
    assert rotations(["x", "y", "z"], "y") == [
        (["x", "y", "z"], "B"),
        (["y", "z", "x"], "A"),
        (["z", "x", "y"], "C"),
    ]
    for options, letter in rotations([f"option {number}" for number in range(26)], "option 7"):
        assert f"{letter}. option 7" in options_text(options).splitlines()


def test_options_that_have_no_letter_or_no_single_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="27 options; there are 26"):
        options_text(["x"] * 27)
    with pytest.raises(ValueError, match="'w' is 0 of the options"):
        rotations(["x", "y"], "w")
    with pytest.raises(ValueError, match="'x' is 2 of the options"):
        rotations(["x", "y", "x"], "x")


# In rows

PICTURE = {"type": "image", "path": "media/image 0.png"}


def row(name: str, *content: Any, **extra: Any) -> Row:
    """Two questions, the first of which has these parts."""
    parts = [{"type": "text", "text": each} if isinstance(each, str) else each for each in content]
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": name},
        {"role": "user", "content": "And else?"},
        {"role": "assistant", "content": "Nothing."},
    ]
    return Row(name, messages, extra=extra)


ROWS = [
    row("before", PICTURE, "\nWhat is it?"),
    row("behind", "What is it?\n", PICTURE, answer_format="caption"),
    row("around", "What is", PICTURE, "here?", answer_format=None),
    row("two", PICTURE, PICTURE, "Which?"),
    row("words", "How are you?"),
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    manifest_of_media(folder)
    write_rows(folder / "rows.jsonl", ROWS)
    return folder / "rows.jsonl"


@pytest.fixture(scope="module", params=[ManifestConversations, ChunkedConversations])
def rows(request: pytest.FixtureRequest, manifest: Path) -> tuple[type, Path]:
    """Either reader, and what it reads."""
    if request.param is ManifestConversations:
        return ManifestConversations, manifest
    pytest.importorskip("litdata")
    folder = manifest.parent / "chunks"
    optimize(manifest, folder)
    return ChunkedConversations, folder


def asked(source: RowConversations, indices: range = range(5)) -> dict[str, list[Message]]:
    """What the user says, by name of row."""
    found = [source.conversation(index).messages for index in indices]
    return {messages[2].text: [messages[1], messages[3]] for messages in found}


def said(message: Message) -> list[str]:
    """Texts of a message, and a word where its media stand."""
    return [part if isinstance(part, str) else "PICTURE" for part in message.parts]


def test_the_first_question_of_a_row_asks_for_the_format(rows: tuple[type, Path]) -> None:
    reader, path = rows
    found = asked(reader(path, answer_format="short"))
    assert {name: said(first) for name, (first, _) in found.items()} == {
        "before": ["PICTURE", f"\nWhat is it?\n{SHORT}"],
        # Its own format.
        "behind": [f"What is it?\n{PROMPTS['caption']}\n", "PICTURE"],
        "around": ["What is", "PICTURE", "here?"],
        "two": ["PICTURE", "PICTURE", f"Which?\n{SHORT}"],
        "words": [f"How are you?\n{SHORT}"],
    }
    assert all(said(second) == ["And else?"] for _, second in found.values())


def test_only_rows_that_name_a_format_ask_for_one_by_default(rows: tuple[type, Path]) -> None:
    reader, path = rows
    found = asked(reader(path))
    assert [name for name, (first, _) in found.items() if "Provide" in first.text] == ["behind"]


def test_a_picture_without_words_is_asked_about_with_the_prompt_alone(manifest: Path) -> None:
    path = manifest.parent / "bare.jsonl"
    bare = row("bare", PICTURE, answer_format="caption")
    bare.messages = bare.messages[:3]
    write_rows(path, [bare])
    (_, first, _) = ManifestConversations(path).conversation(0).messages
    assert said(first) == ["PICTURE", PROMPTS["caption"]]


def test_the_medium_of_a_first_turn_stands_on_either_side_half_of_the_time(
    rows: tuple[type, Path],
) -> None:
    reader, path = rows
    source = reader(path, shuffle_first_turn=True)
    plain = reader(path, answer_format=None)
    num_behind = {"before": 0, "behind": 0}
    for round_number in range(200):
        indices = range(5 * round_number, 5 * round_number + 5)
        found, expected = asked(source, indices), asked(plain, indices)
        for name, (first, second) in found.items():
            assert said(second) == ["And else?"]
            if name not in num_behind:
                assert said(first) == said(expected[name][0])
                continue
            texts = "What is it?", f"What is it?\n{PROMPTS['caption']}"
            text = texts[name == "behind"]
            assert said(first) in ([text + "\n", "PICTURE"], ["PICTURE", "\n" + text])
            num_behind[name] += said(first)[1] == "PICTURE"
    # Three standard deviations of 200 halves are 21.
    assert list(num_behind.values()) == pytest.approx([100, 100], abs=22)
    again = reader(path, shuffle_first_turn=True)
    other = reader(path, shuffle_first_turn=True, seed=1)
    orders = [
        [said(each.conversation(index).messages[1]) for index in range(50)]
        for each in (source, again, other)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_formats_that_are_unknown_are_found_before_training(manifest: Path, tmp_path: Path) -> None:
    path = shutil.copy(manifest, tmp_path / "rows.jsonl")
    write_rows(path, [ROWS[0], row("odd", "What?", answer_format="long")])
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: answer_format 'long' is unknown"):
        ManifestConversations(path).prepare(None)
    wrong: AnswerFormat = "brief"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="'brief' is unknown; use one of short"):
        ManifestConversations(path, answer_format=wrong)


@pytest.mark.parametrize("options", [{"answer_format": "short"}, {"shuffle_first_turn": True}])
def test_captions_are_no_questions_in_a_format(manifest: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="turn: medium_to_caption has none"):
        ManifestConversations(manifest, turn="medium_to_caption", **options)
