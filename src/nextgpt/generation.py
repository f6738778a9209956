"""Chatting with a model: a reply as a stream of text and media."""

import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nextgpt import checkpoint
from nextgpt.collate import collate
from nextgpt.media import Medium
from nextgpt.messages import Conversation, Message, Part
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel


@dataclass(frozen=True)
class TextDelta:
    """The next piece of text."""

    text: str


@dataclass(frozen=True)
class MediaStarted:
    """The model asked for the medium number ``index`` of this reply."""

    index: int
    modality: Modality


@dataclass(frozen=True)
class MediaProgress:
    """The decoder finished ``step`` of ``total`` steps on medium ``index``."""

    index: int
    step: int
    total: int


@dataclass(frozen=True)
class MediaFinished:
    """Medium ``index`` is ready."""

    index: int
    part: Medium


@dataclass(frozen=True)
class Done:
    """The reply is whole."""

    message: Message
    timings: dict[str, float]
    """Seconds from the start: ``first_token_s``, ``text_s`` and ``total_s``."""


Event = TextDelta | MediaStarted | MediaProgress | MediaFinished | Done


@dataclass(frozen=True)
class MediumRequest:
    """A medium that the model asked for by a run of signal tokens."""

    modality: Modality
    conditioning: Tensor
    """(1, L, C) float32: what the decoder makes the medium from."""


class NextGPT:
    """A model that one can chat with."""

    def __init__(self, model: NextGPTModel) -> None:
        """Wrap a chain, which is put into evaluation mode."""
        self.model = model.eval()

    @classmethod
    def from_pretrained(cls, directory: str | Path | None = None) -> "NextGPT":
        """Load a checkpoint directory; without one, the micro model that ships with nextgpt.

        Raises:
            ValueError: the directory or one of its files is missing or does not fit.
        """
        return cls(checkpoint.load(directory or checkpoint.shipped_model()))

    def chat(
        self,
        parts: str | Medium | Sequence[Part] | Conversation,
        *,
        seed: int = 0,
        modalities: Sequence[str] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
    ) -> Message:
        """Answer one message, or the last message of a conversation.

        See ``stream`` for the arguments.
        """
        if isinstance(parts, Conversation):
            conversation = parts
        else:
            single = (parts,) if isinstance(parts, str | Medium) else parts
            conversation = Conversation().user(*single)
        for event in self.stream(
            conversation,
            seed=seed,
            modalities=modalities,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
        ):
            if isinstance(event, Done):
                return event.message
        raise AssertionError("a stream ends with Done")

    @torch.inference_mode()
    def stream(
        self,
        conversation: Conversation,
        *,
        seed: int = 0,
        modalities: Sequence[str] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
    ) -> Generator[Event, None, None]:
        """Answer the last message of a conversation, which is left as it is.

        Args:
            conversation: Ends with a user message.
            seed: The same seed gives the same reply. Medium ``i`` of a reply is drawn with
                ``seed + i``.
            modalities: The media that the reply must hold, each at least once, and no others;
                an empty list forbids all media. None leaves the choice to the model.
            max_new_tokens: Tokens of the reply at most; a started run is always finished.
            temperature: 0 takes the most likely token.
            top_p: Samples from the smallest set of tokens with this probability.

        Yields:
            Events; the last one is ``Done``.

        Raises:
            ValueError: the conversation or an argument cannot be used.
        """
        started = time.perf_counter()
        timings: dict[str, float] = {}
        parts: list[Part | None] = []
        requests: list[tuple[int, MediumRequest]] = []
        for new in self.write(
            conversation,
            seed=seed,
            modalities=modalities,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
        ):
            timings.setdefault("first_token_s", time.perf_counter() - started)
            if isinstance(new, str):
                if parts and isinstance(parts[-1], str):
                    parts[-1] += new
                else:
                    parts.append(new)
                yield TextDelta(new)
            else:
                yield MediaStarted(len(requests), new.modality)
                requests.append((len(parts), new))
                parts.append(None)
        timings["text_s"] = time.perf_counter() - started
        for index, (position, request) in enumerate(requests):
            medium = yield from self._render(index, request, seed + index)
            parts[position] = medium
            yield MediaFinished(index, medium)
        timings["total_s"] = time.perf_counter() - started
        timings.setdefault("first_token_s", timings["text_s"])
        yield Done(Message("assistant", [part for part in parts if part is not None]), timings)

    def _required(self, modalities: Sequence[str] | None) -> set[Modality] | None:
        if modalities is None:
            return None
        available = self.model.language_model.signals.modalities
        for name in modalities:
            if name != Modality.TEXT and name not in available:
                raise ValueError(
                    f"this model cannot answer in {name!r}; choose from text, "
                    f"{', '.join(available)}"
                )
        return {Modality(name) for name in modalities} - {Modality.TEXT}

    def features(self, modality: Modality, media: list[Medium]) -> Tensor:
        """Encode media of one modality, (n, N, D_enc)."""
        encoder = self.model.encoder
        tensors = [encoder.preprocess(modality, medium) for medium in media]
        return encoder.encode(modality, torch.stack(tensors).to(self.model.device))

    @torch.inference_mode()
    def write(
        self,
        conversation: Conversation,
        *,
        seed: int = 0,
        modalities: Sequence[str] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
    ) -> Iterator[str | MediumRequest]:
        """Write a reply without rendering its media.

        Arguments and errors are those of ``stream``.

        Yields:
            Pieces of text, and the media asked for, in the order of the reply.
        """
        from transformers import DynamicCache

        required = self._required(modalities)
        model, language_model = self.model, self.model.language_model
        signals = language_model.signals
        # At the worst, media that are still owed follow max_new_tokens of text.
        plan = model.prompter.generation_plan(conversation, max_new_tokens + len(signals))
        batch = collate([plan], self.features)
        generator = torch.Generator().manual_seed(seed)
        cache = DynamicCache(config=language_model.llm.config)
        state = language_model(model.assemble(batch), None, cache)[:, -1]
        allowed = set(signals.modalities) if required is None else required
        forbidden = signals.forbidden(allowed)
        owed = set(required or ())
        text = _TextPieces(language_model.tokenizer)
        written = 0
        while True:
            logits = language_model.logits(state)[0].masked_fill(forbidden, -torch.inf)
            token = _sample(logits, temperature, top_p, generator)
            if token == model.prompter.end_id or written >= max_new_tokens:
                if not owed:
                    break
                token = signals.run(min(owed, key=signals.modalities.index))[0]
            modality = signals.started_by(token)
            if modality is None:
                written += 1
                if piece := text.add(token):
                    yield piece
                embeds = language_model.embed(torch.tensor([[token]]))
                state = language_model(embeds, None, cache)[:, -1]
                continue
            if piece := text.finish():
                yield piece
            owed.discard(modality)
            run = signals.run(modality)
            written += len(run)
            embeds = language_model.embed(torch.tensor([run]))
            states = language_model(embeds, None, cache)
            yield MediumRequest(modality, model.project(modality, states, embeds))
            state = states[:, -1]
        if piece := text.finish():
            yield piece

    def _render(
        self, index: int, request: MediumRequest, seed: int
    ) -> Generator[MediaProgress, None, Medium]:
        """Decode one medium; progress is yielded while it goes on, the medium returned."""
        events: queue.Queue[MediaProgress | None] = queue.Queue()
        stopped = threading.Event()

        def on_step(step: int, total: int) -> None:
            if stopped.is_set():
                raise InterruptedError("the reply was stopped")
            events.put(MediaProgress(index, step, total))

        def work() -> Medium:
            try:
                generator = torch.Generator().manual_seed(seed)
                decoder = self.model.decoders[request.modality]
                return decoder.decode(request.conditioning, generator, on_step=on_step)[0]
            finally:
                events.put(None)

        with ThreadPoolExecutor(max_workers=1) as worker:
            try:
                rendering = worker.submit(work)
                while (event := events.get()) is not None:
                    yield event
            finally:
                stopped.set()
        medium = rendering.result()
        medium.seed = seed
        return medium


class _TextPieces:
    """Decodes tokens into text, holding back characters that are not whole yet."""

    def __init__(self, tokenizer) -> None:  # noqa: ANN001
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.shown = 0

    def _decoded(self) -> str:
        return self.tokenizer.decode(
            self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def add(self, token: int) -> str:
        """Return the text that this token completes."""
        self.ids.append(token)
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
