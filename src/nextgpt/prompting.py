"""A conversation as the token sequence that the language model reads, with places for media."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from nextgpt.layout import Layout
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message
from nextgpt.modality import Modality
from nextgpt.signals import SignalVocabulary

logger = logging.getLogger(__name__)

IGNORED = -100


@dataclass(frozen=True)
class PromptTemplate:
    """What stands around messages, every space of it."""

    system: tuple[str, str]
    """Before and behind a system message."""
    user: tuple[str, str]
    """Before and behind a user message."""
    assistant: tuple[str, str]
    """Before an answer, and behind the end that the model writes."""
    ends: tuple[str, ...]
    """What ends an answer and is learned with it: the first one behind words, the last one behind a
    medium. The model may write any of them anywhere."""
    bos: bool = False
    """Whether a sequence starts with the tokenizer's beginning-of-sequence token."""
    gap: str = ""
    """Before words that are not the first of the sequence; one piece with them."""
    later_user: str | None = None
    """Before a user message behind an answer, where that is something else."""
    markers: tuple[str, ...] = ()
    """Tokens before and behind every medium that is seen. They train like signal tokens."""
    default_system: str = ""
    """System message of conversations that bring none."""


TEMPLATES = {
    "chatml": PromptTemplate(
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        user=("<|im_start|>user\n", "<|im_end|>\n"),
        assistant=("<|im_start|>assistant\n", "\n"),
        ends=("<|im_end|>",),
    ),
    # Vicuna 1.1 and 1.5; the tokenizer that they were trained with put a space behind </s>.
    "vicuna_v1": PromptTemplate(
        system=("", ""),
        user=(" USER:", ""),
        assistant=(" ASSISTANT:", ""),
        ends=("</s>",),
        bos=True,
        gap=" ",
        default_system="A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    ),
    # The released weights of NExT-GPT, piece by piece as they were tokenised for training: the
    # space behind a header is a token of its own, but spaces and lines beside added tokens are
    # lost, so that nothing stands before <Img> nor between signal tokens and ###.
    "vicuna_v0": PromptTemplate(
        system=("", "\n"),
        user=("### Human: ", ""),
        assistant=("\n### Assistant: ", ""),
        ends=("\n###", " ###"),
        bos=True,
        gap=" ",
        later_user=" Human:",
        markers=("<Img>", "</Img>"),
    ),
    # Documents of text and media, and media with captions, for a model that talks ChatML otherwise:
    # Flamingo's <BOS><image>text<EOC><image>text<EOC>.
    "interleaved": PromptTemplate(
        system=("", ""),
        user=("", ""),
        assistant=("", ""),
        ends=("<|im_end|>",),
        bos=True,
    ),
    # The same for models of the kind of Llama and OPT: what BLIP-2 and Flamingo were trained on.
    "plain": PromptTemplate(
        system=("", ""),
        user=("", ""),
        assistant=("", ""),
        ends=("</s>",),
        bos=True,
    ),
}


def template_of(name: str) -> PromptTemplate:
    """Look up a template.

    Raises:
        ValueError: it is unknown.
    """
    if name not in TEMPLATES:
        raise ValueError(f"unknown template {name!r}; choose {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


@dataclass(frozen=True)
class MediaSlot:
    """Positions ``start .. start + length`` of a sequence are filled with a medium's features."""

    modality: Modality
    medium: Medium
    start: int
    length: int
    layout: Layout = Layout()
    """How the medium is cut."""
    text: str = ""
    """What the message says that shows it."""


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
        weight: Factor of the loss of its batch, which is that of all plans in it.
    """

    input_ids: Tensor
    labels: Tensor
    slots: list[MediaSlot]
    runs: list[SignalRun]
    num_dropped: int = 0
    answers: list[int] = field(default_factory=list)
    weight: float = 1.0


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
        measure: Callable[[Medium], tuple[Layout, int]],
        max_length: int,
    ) -> None:
        """Prepare the template.

        Args:
            tokenizer: The language model's own tokenizer.
            template: A key of ``TEMPLATES``.
            signals: The signal tokens and the template's markers behind the tokenizer's vocabulary.
            measure: Says how a medium is cut, and how many positions it takes.
            max_length: Tokens that a sequence may have.

        Raises:
            ValueError: the template is unknown.
        """
        self.tokenizer = tokenizer
        self.template = template_of(template)
        assert signals.markers == self.template.markers
        self.signals = signals
        self.measure = measure
        self.max_length = max_length

    @cached_property
    def _anchor(self) -> tuple[str, int]:
        """What stands before a piece of text while it is encoded, and its number of tokens.

        Llama's tokenizers put a space before whatever they are given. Behind a line feed, which
        they never join to what follows, a piece is encoded as it stands.
        """
        first = self.tokenizer.convert_ids_to_tokens(self._encode("a", follows=False))[0]
        text = "\n" if first.startswith("▁") else ""
        return text, len(self._encode(text, follows=False))

    @cached_property
    def ends(self) -> list[list[int]]:
        """Tokens of every end of an answer, in the order of the template."""
        return [self._encode(end, follows=True) for end in self.template.ends]

    @property
    def end_id(self) -> int:
        """The last token of an answer that ends with words."""
        return self.ends[0][-1]

    def _encode(self, text: str, follows: bool, **options: bool) -> list[int]:
        anchor, skipped = self._anchor if follows else ("", 0)
        return self.tokenizer.encode(anchor + text, add_special_tokens=False, **options)[skipped:]

    def _add_fixed(self, sequence: _Sequence, text: str) -> None:
        sequence.add(self._encode(text, follows=bool(sequence.ids)) if text else [])

    def _add_written(self, sequence: _Sequence, text: str, *, learned: bool) -> None:
        follows = bool(sequence.ids)
        text = (self.template.gap if follows else "") + text
        # NOTE: text from people must never become control tokens of the template.
        ids = self._encode(text, follows, split_special_tokens=True)
        sequence.add(ids, learned=learned)

    def _split(self, messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """The system message, that of the template if a conversation brings none; the others."""
        if messages and messages[0].role == "system":
            return [messages[0]], [*messages[1:]]
        default = self.template.default_system
        return [Message("system", [default])] if default else [], [*messages]

    def training_plan(self, conversation: Conversation) -> SequencePlan:
        """Plan a whole conversation; the assistant's words and first signal tokens are learned.

        Raises:
            ValueError: it is longer than ``max_length`` tokens.
        """
        sequence = _Sequence()
        pending: list[Medium] = []
        system, talk = self._split(conversation.messages)
        for message in [*system, *talk]:
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
        system, talk = self._split(messages)
        for dropped in range(len(talk)):
            if talk[dropped].role == "assistant":
                continue
            sequence = _Sequence()
            pending: list[Medium] = []
            for message in [*system, *talk[dropped:]]:
                self._add_message(sequence, message, pending)
            self._add_fixed(sequence, self.template.assistant[0])
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
        if message.role == "user" and sequence.answers and self.template.later_user is not None:
            start = self.template.later_user
        learned = message.role == "assistant"
        seen = pending if message.role == "user" else []
        parts = [*seen, *message.parts]
        seen.clear()
        if self.template.markers and not learned and parts and not isinstance(parts[0], str):
            start = start.rstrip()
        self._add_fixed(sequence, start)
        if learned:
            sequence.answers.append(len(sequence.ids))
        for part in parts:
            if isinstance(part, str):
                self._add_written(sequence, part, learned=learned)
            elif learned:
                self._add_run(sequence, part)
                pending.append(part)
            else:
                self._add_slot(sequence, part, message.text)
        if learned:
            behind_medium = bool(parts) and not isinstance(parts[-1], str)
            sequence.add(self.ends[-1 if behind_medium else 0], learned=True)
        self._add_fixed(sequence, end)

    def _add_slot(self, sequence: _Sequence, medium: Medium, text: str) -> None:
        layout, length = self.measure(medium)
        markers = self.signals.marker_ids
        sequence.add(markers[:1])
        slot = MediaSlot(medium.modality, medium, len(sequence.ids), length, layout, text)
        sequence.slots.append(slot)
        sequence.add([self.end_id] * length)
        sequence.add(markers[1:])

    def _add_run(self, sequence: _Sequence, medium: Medium) -> None:
        run = self.signals.run(medium.modality)
        sequence.runs.append(SignalRun(medium.modality, medium, len(sequence.ids), len(run)))
        sequence.add(run[:1], learned=True)
        sequence.add(run[1:])
