"""A conversation as the token sequence that the language model reads, with places for media."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.signals import SignalVocabulary

logger = logging.getLogger(__name__)

IGNORED = -100


@dataclass(frozen=True)
class PromptTemplate:
    """What stands before and after the messages of each role."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    bos: bool = False
    """Whether a sequence starts with the tokenizer's beginning-of-sequence token."""


TEMPLATES = {
    "chatml": PromptTemplate(
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        user=("<|im_start|>user\n", "<|im_end|>\n"),
        assistant=("<|im_start|>assistant\n", "<|im_end|>\n"),
    ),
    "vicuna_v1": PromptTemplate(
        system=("", " "), user=("USER: ", " "), assistant=("ASSISTANT: ", "</s>"), bos=True
    ),
}


@dataclass(frozen=True)
class MediaSlot:
    """Positions ``start .. start + length`` of a sequence are filled with a medium's features."""

    modality: Modality
    medium: Medium
    start: int
    length: int


@dataclass(frozen=True)
class SignalRun:
    """Positions ``start .. start + length`` hold the signal tokens that ask for ``medium``."""

    modality: Modality
    medium: Medium
    start: int
    length: int


@dataclass
class SequencePlan:
    """One conversation as tokens.

    Attributes:
        input_ids: (T,) int64. Media slots hold an id that is never embedded.
        labels: (T,) int64; the id itself where the model learns to write it, else -100.
        slots: Media that the model sees.
        runs: Media that the model asked for.
        num_dropped: Messages left out at the start because they did not fit.
        answers: Where each answer starts, behind its header; the one to be written is the last.
    """

    input_ids: Tensor
    labels: Tensor
    slots: list[MediaSlot]
    runs: list[SignalRun]
    num_dropped: int = 0
    answers: list[int] = field(default_factory=list)


@dataclass
class _Sequence:
    """A plan while it grows."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    slots: list[MediaSlot] = field(default_factory=list)
    runs: list[SignalRun] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def add(self, ids: list[int], *, learned: bool = False) -> None:
        self.ids += ids
        self.labels += ids if learned else [IGNORED] * len(ids)


class Prompter:
    """Turns conversations into sequence plans for one language model."""

    def __init__(
        self,
        tokenizer,  # noqa: ANN001  a transformers tokenizer
        template: str,
        signals: SignalVocabulary,
        num_media_tokens: Callable[[Modality], int],
        max_length: int,
    ) -> None:
        """Prepare the template.

        Args:
            tokenizer: The language model's own tokenizer.
            template: A key of ``TEMPLATES``.
            signals: The signal tokens behind the tokenizer's vocabulary.
            num_media_tokens: Positions that one medium takes.
            max_length: Tokens that a sequence may have.

        Raises:
            ValueError: the template is unknown.
        """
        if template not in TEMPLATES:
            raise ValueError(f"unknown template {template!r}; choose {', '.join(TEMPLATES)}")
        self.tokenizer = tokenizer
        self.template = TEMPLATES[template]
        self.signals = signals
        self.num_media_tokens = num_media_tokens
        self.max_length = max_length

    @cached_property
    def end_id(self) -> int:
        """The token that ends an answer."""
        _, end = self.template.assistant
        return self._fixed(end)[0]

    def _fixed(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _written(self, text: str) -> list[int]:
        # NOTE: text from people must never become control tokens of the template.
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def training_plan(self, conversation: Conversation) -> SequencePlan:
        """Plan a whole conversation; the assistant's words and first signal tokens are learned.

        Raises:
            ValueError: it is longer than ``max_length`` tokens.
        """
        sequence = _Sequence()
        pending: list[Medium] = []
        for message in conversation.messages:
            self._add_message(sequence, message, pending)
        self._add_bos(sequence)
        if len(sequence.ids) > self.max_length:
            raise ValueError(
                f"a conversation has {len(sequence.ids)} tokens, more than max_length "
                f"{self.max_length}; shorten it or raise max_length"
            )
        return self._plan(sequence)

    def generation_plan(self, conversation: Conversation, reserve: int) -> SequencePlan:
        """Plan a conversation up to the point where the assistant answers.

        The oldest messages behind a system message are left out when the sequence would not leave
        ``reserve`` tokens for the answer; ``num_dropped`` says how many.

        Raises:
            ValueError: the last message alone is too long, is not from the user, or spells a
                signal token.
        """
        messages = conversation.messages
        if not messages or messages[-1].role != "user":
            raise ValueError("the last message of the conversation must be from the user")
        for message in messages:
            if message.role != "assistant":
                self.signals.reject_in(message.text)
        system = [message for message in messages[:1] if message.role == "system"]
        talk = messages[len(system) :]
        for dropped in range(len(talk)):
            if talk[dropped].role == "assistant":
                continue
            sequence = _Sequence()
            pending: list[Medium] = []
            for message in [*system, *talk[dropped:]]:
                self._add_message(sequence, message, pending)
            sequence.add(self._fixed(self.template.assistant[0]))
            sequence.answers.append(len(sequence.ids))
            self._add_bos(sequence)
            if len(sequence.ids) + reserve <= self.max_length:
                if dropped:
                    logger.warning(
                        "the conversation is longer than %d tokens: its first %d messages are "
                        "left out",
                        self.max_length,
                        dropped,
                    )
                plan = self._plan(sequence)
                plan.num_dropped = dropped
                return plan
        raise ValueError(
            f"the last message has {len(sequence.ids)} tokens; with {reserve} reserved for the "
            f"answer at most {max(0, self.max_length - reserve)} fit: shorten the message or lower "
            "max_new_tokens"
        )

    def _add_bos(self, sequence: _Sequence) -> None:
        if not self.template.bos:
            return
        sequence.ids.insert(0, self.tokenizer.bos_token_id)
        sequence.labels.insert(0, IGNORED)
        sequence.slots = [replace(slot, start=slot.start + 1) for slot in sequence.slots]
        sequence.runs = [replace(run, start=run.start + 1) for run in sequence.runs]
        sequence.answers = [start + 1 for start in sequence.answers]

    def _plan(self, sequence: _Sequence) -> SequencePlan:
        return SequencePlan(
            torch.tensor(sequence.ids),
            torch.tensor(sequence.labels),
            sequence.slots,
            sequence.runs,
            answers=sequence.answers,
        )

    def _add_message(self, sequence: _Sequence, message: Message, pending: list[Medium]) -> None:
        """Append one message.

        The model sees the media of its own replies at the head of the next user message: while it
        writes a reply they do not exist yet. ``pending`` carries them there.
        """
        start, end = getattr(self.template, message.role)
        learned = message.role == "assistant"
        sequence.add(self._fixed(start))
        if learned:
            sequence.answers.append(len(sequence.ids))
        if message.role == "user":
            for medium in pending:
                self._add_slot(sequence, medium)
            pending.clear()
        for part in message.parts:
            if isinstance(part, str):
                sequence.add(self._written(part), learned=learned)
            elif learned:
                self._add_run(sequence, part)
                pending.append(part)
            else:
                self._add_slot(sequence, part)
        end_ids = self._fixed(end)
        sequence.add(end_ids[:1], learned=learned)
        sequence.add(end_ids[1:])

    def _add_slot(self, sequence: _Sequence, medium: Medium) -> None:
        length = self.num_media_tokens(medium.modality)
        sequence.slots.append(MediaSlot(medium.modality, medium, len(sequence.ids), length))
        sequence.add([self.end_id] * length)

    def _add_run(self, sequence: _Sequence, medium: Medium) -> None:
        run = self.signals.run(medium.modality)
        sequence.runs.append(SignalRun(medium.modality, medium, len(sequence.ids), len(run)))
        sequence.add(run[:1], learned=True)
        sequence.add(run[1:])
