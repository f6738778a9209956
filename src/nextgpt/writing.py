"""Replies as the language model writes them: text, and the media it asks for."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nextgpt.bridges import MediaContext
from nextgpt.collate import collate
from nextgpt.memory import Memory, Prompt
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel


@dataclass(frozen=True)
class MediumRequest:
    """A medium that the model asked for by a run of signal tokens."""

    modality: Modality
    conditioning: Tensor
    """(1, L, C) float32: what the decoder makes the medium from."""


Written = str | MediumRequest
"""A piece of text, or a medium that stands there."""


@dataclass(frozen=True)
class WritingOptions:
    """How replies are written."""

    seed: int = 0
    """Of the choice of tokens."""
    required: Collection[Modality] = ()
    """The media that a reply must hold, each at least once."""
    forbidden: Collection[Modality] = ()
    """The media that it must not hold."""
    max_new_tokens: int = 256
    """Tokens of a reply at most; a started run is always finished."""
    temperature: float = 0.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    """Samples from the smallest set of tokens with this probability."""


@torch.inference_mode()
def write(
    model: NextGPTModel,
    conversations: Sequence[Conversation],
    options: WritingOptions,
    memory: Memory,
) -> Generator[tuple[int, Written], None, None]:
    """Write the replies to some conversations side by side, rendering nothing.

    What the memory knows is not computed again: features, and the start of a single conversation.

    Yields:
        The number of a conversation and the next piece of its reply, as soon as it is written.

    Raises:
        ValueError: a conversation cannot be answered.
    """
    from transformers import DynamicCache

    language_model = model.language_model
    # At the worst, media that are still owed follow max_new_tokens of text.
    room = options.max_new_tokens + len(language_model.signals)
    plans = [model.prompter.generation_plan(each, room) for each in conversations]
    batch = collate(plans, partial(memory.features, model))
    model.placement.wake(language_model)
    batch = batch.to(model.device)
    replies = [_Reply(model, number, options) for number in range(len(conversations))]
    cache = DynamicCache(config=language_model.llm.config)
    (embeds, context), mask = model.assemble(batch), batch.attention_mask
    if len(plans) > 1:
        yield from _written(model, replies, embeds, mask, mask, context, cache)
        return
    prompt = Prompt.of(plans[0])
    known, remembered = memory.recall(prompt)
    cache = remembered or cache
    try:
        *earlier, (last, _) = prompt.turns
        for start, end in earlier:
            if end > known:
                model.read(embeds[:, start:end], mask[:, :end], context, cache)
        fresh = embeds[:, last:], mask[:, last:]
        yield from _written(model, replies, *fresh, mask, context, cache)
    except GeneratorExit:
        # Nobody wants the rest. Another exception may have come in the middle of a layer.
        memory.keep(prompt, cache)
        raise
    memory.keep(prompt, cache)


def _written(
    model: NextGPTModel,
    replies: list[_Reply],
    embeds: Tensor,
    fresh: Tensor,
    mask: Tensor,
    context: MediaContext | None,
    cache: Any,
) -> Iterator[tuple[int, Written]]:
    """Read and write by turns.

    Args:
        model: Reads.
        replies: Write; B of them.
        embeds: (B, T, D) of what is read next.
        fresh: (B, T) int64, 1 where there is a token of it.
        mask: (B, past + T) int64, of everything.
        context: Media of the prompts, where a fusion looks at them.
        cache: Holds the past.
    """
    language_model = model.language_model
    while True:
        states = model.read(embeds, mask, context, cache)
        lengths = fresh.sum(dim=1)
        rows = torch.arange(len(replies), device=states.device)
        # Tokens are chosen on the processor: the same seed gives the same on every device.
        logits = language_model.logits(states[rows, lengths - 1]).cpu()
        for row, (reply, length) in enumerate(zip(replies, lengths.tolist(), strict=True)):
            for piece in reply.go_on(states[row, :length], embeds[row, :length], logits[row]):
                yield reply.number, piece
        going = [row for row, reply in enumerate(replies) if reply.tokens]
        if not going:
            return
        if len(going) < len(replies):
            cache.batch_select_indices(torch.tensor(going, device=mask.device))
            mask, replies = mask[going], [replies[row] for row in going]
            context = context and context[going]
        tokens = [torch.tensor(reply.tokens, device=mask.device) for reply in replies]
        fresh = pad_sequence([torch.ones_like(each) for each in tokens], batch_first=True)
        embeds = language_model.embed(pad_sequence(tokens, batch_first=True))
        mask = torch.cat([mask, fresh], dim=1)


class _Reply:
    """One reply while it is written."""

    def __init__(self, model: NextGPTModel, number: int, options: WritingOptions) -> None:
        signals = model.language_model.signals
        self.model, self.number, self.options = model, number, options
        self.forbidden = signals.forbidden(set(signals.modalities) - set(options.forbidden))
        self.owed = set(options.required)
        self.end = _End(model.prompter.ends)
        self.text = _TextPieces(model.language_model.tokenizer, model.prompter.template.gap)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.num_written = 0
        self.run: Modality | None = None
        """Of the signal tokens read last."""
        self.tokens: list[int] = []
        """What the language model reads next; nothing when the reply is whole."""

    def go_on(self, states: Tensor, embeds: Tensor, logits: Tensor) -> Iterator[Written]:
        """Choose what comes next.

        Args:
            states: (T, D) of the tokens read last.
            embeds: (T, D) of the same.
            logits: (V + S,) behind them.
        """
        signals = self.model.language_model.signals
        if self.run is not None:
            conditioning = self.model.project(self.run, states[None], embeds[None])
            yield MediumRequest(self.run, conditioning)
        options = self.options
        allowed = logits.masked_fill(self.forbidden, -torch.inf)
        token = _sample(allowed, options.temperature, options.top_p, self.generator)
        ended = self.num_written >= options.max_new_tokens
        self.run = None if ended else signals.started_by(token)
        if not ended and self.run is None:
            words, ended = self.end.add(token)
            if piece := self.text.add(words):
                yield piece
            self.tokens = [token]
        if ended or self.run is not None:
            if piece := self.text.add(self.end.release()) + self.text.finish():
                yield piece
            self.tokens = []
        if ended and self.owed:
            self.run = min(self.owed, key=signals.modalities.index)
        if self.run is not None:
            self.tokens = signals.run(self.run)
            self.owed.discard(self.run)
        self.num_written += len(self.tokens)


class _End:
    """Tells the end of an answer from its words; holds back what may still become one."""

    def __init__(self, ends: Sequence[list[int]]) -> None:
        self.ends = ends
        self.held: list[int] = []

    def add(self, token: int) -> tuple[list[int], bool]:
        """Return the words that are certain by now, and whether the answer has ended."""
        self.held.append(token)
        for length in range(len(self.held), 0, -1):
            words, tail = self.held[:-length], self.held[-length:]
            if any(end[:length] == tail for end in self.ends):
                ended = tail in self.ends
                self.held = [] if ended else tail
                return words, ended
        return self.release(), False

    def release(self) -> list[int]:
        """Return what was held back, since no end came of it."""
        words, self.held = self.held, []
        return words


class _TextPieces:
    """Decodes tokens into text, holding back characters that are not whole yet."""

    def __init__(self, tokenizer: Any, gap: str) -> None:
        self.tokenizer = tokenizer
        self.gap = gap
        self.ids: list[int] = []
        self.shown = 0

    def _decoded(self) -> str:
        text = self.tokenizer.decode(
            self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.removeprefix(self.gap)

    def add(self, tokens: list[int]) -> str:
        """Return the text that these tokens complete."""
        self.ids += tokens
        text = self._decoded()
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        piece, self.shown = text[self.shown :], len(text)
        return piece

    def finish(self) -> str:
        """Return what is left and start anew."""
        piece = self._decoded()[self.shown :]
        self.ids, self.shown = [], 0
        return piece


def _sample(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Choose the next token from (V,) logits."""
    if temperature <= 0:
        return int(logits.argmax())
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True)
    kept = probabilities.cumsum(-1) - probabilities < top_p
    kept[0] = True
    choice = torch.multinomial(probabilities * kept, 1, generator=generator)
    return int(order[choice])
