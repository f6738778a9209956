"""Prompts that say in which form an answer is wanted, so that short answers stay out of the chat.

Source: arXiv:2310.03744 (LLaVA-1.5), section 3.2 and table 7.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal, cast, get_args

AnswerFormat = Literal["short", "letter", "caption", "region"]
"""A word or phrase; the letter of one of several options; a sentence about a whole picture; a
phrase about a region of it."""

PROMPTS: dict[AnswerFormat, str] = {
    "short": "Answer the question using a single word or phrase.",
    "letter": "Answer with the option's letter from the given choices directly.",
    "caption": "Provide a one-sentence caption for the provided image.",
    "region": "Provide a short description for this region.",
}


def known_format(name: object) -> AnswerFormat:
    """Look up a format.

    Raises:
        ValueError: it is unknown.
    """
    if name not in get_args(AnswerFormat):
        known = ", ".join(PROMPTS)
        raise ValueError(f"answer_format {name!r:.60} is unknown; use one of {known}")
    return cast(AnswerFormat, name)


def with_format(question: str, kind: AnswerFormat) -> str:
    """Put the prompt of a format on a line of its own below a question, which may be empty.

    Line feeds behind the question, which keep it apart from a medium there, stay behind.

    Raises:
        ValueError: the format is unknown.
    """
    prompt = PROMPTS[known_format(kind)]
    if not question.strip():
        return prompt
    end = question[len(question.rstrip("\n")) :]
    return f"{question.rstrip()}\n{prompt}{end}"


def options_text(options: Sequence[str]) -> str:
    """Options as lines ``A. ...``, which stand below a question.

    Raises:
        ValueError: there are more than letters.
    """
    if len(options) > len(ascii_uppercase):
        raise ValueError(f"{len(options)} options; there are {len(ascii_uppercase)} letters")
    return "\n".join(
        f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)
    )


def rotations(options: Sequence[str], answer: str) -> list[tuple[list[str], str]]:
    """All rotations of the options of a question, each with the letter that the answer then has.

    Learned from all of them, no letter is right more often than others (A-OKVQA in LLaVA-1.5).

    Args:
        options: k options.
        answer: One of them.

    Returns:
        k pairs, the first of which has the options as they are.

    Raises:
        ValueError: the answer is not one of the options, or is more than one.
    """
    if options.count(answer) != 1:
        raise ValueError(
            f"{answer!r:.60} is {options.count(answer)} of the options {[*options]!r:.200}; make "
            "it one of them"
        )
    turned = [[*options[start:], *options[:start]] for start in range(len(options))]
    return [(each, ascii_uppercase[each.index(answer)]) for each in turned]
