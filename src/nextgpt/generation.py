"""Chatting with a model: a reply as a stream of text and media."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import torch

from nextgpt import checkpoint
from nextgpt.events import Done, Event, MediaFinished, MediaStarted, TextDelta
from nextgpt.media import Medium
from nextgpt.memory import Memory
from nextgpt.messages import Conversation, Message, Part
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.rendering import Rendering
from nextgpt.writing import WritingOptions, Written, write


class NextGPT:
    """A model that one can chat with.

    It remembers features and the conversations of late, so its model's weights must stay.
    """

    def __init__(self, model: NextGPTModel) -> None:
        """Wrap a chain, which is put into evaluation mode."""
        self.model = model.eval()
        self.memory = Memory()

    @classmethod
    def from_pretrained(cls, directory: str | Path | None = None) -> "NextGPT":
        """Load a checkpoint directory; without one, the micro model that ships with nextgpt.

        Raises:
            ValueError: the directory or one of its files is missing or does not fit.
        """
        model = checkpoint.load(directory or checkpoint.shipped_model())
        model.language_model.merge_lora()
        return cls(model)

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
            Events; the last one is ``Done``. Text goes on while media render, a piece a step.
            Everything is computed by the thread that iterates, which must stay the same; closing
            the stream stops within a step.

        Raises:
            ValueError: the conversation or an argument cannot be used.
        """
        started = time.perf_counter()
        timings: dict[str, float] = {}
        parts: list[Part | None] = []
        places: list[int] = []

        rendering = Rendering(self.model.decoders, seed)
        writing = self.write(
            [conversation],
            seed=seed,
            modalities=modalities,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
        )
        with closing(writing), closing(rendering):
            while True:
                _, new = next(writing, (0, None))
                if new is None:
                    timings.setdefault("text_s", time.perf_counter() - started)
                timings.setdefault("first_token_s", time.perf_counter() - started)
                if isinstance(new, str):
                    if parts and isinstance(parts[-1], str):
                        parts[-1] += new
                    else:
                        parts.append(new)
                    yield TextDelta(new)
                elif new is not None:
                    places.append(len(parts))
                    parts.append(None)
                    yield MediaStarted(rendering.ask(new), new.modality)
                event = rendering.step()
                if isinstance(event, MediaFinished):
                    parts[places[event.index]] = event.part
                if event is not None:
                    yield event
                elif new is None:
                    break
        timings["total_s"] = time.perf_counter() - started
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

    def write(
        self,
        conversations: Sequence[Conversation],
        *,
        seed: int = 0,
        modalities: Sequence[str] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
    ) -> Generator[tuple[int, Written], None, None]:
        """Write the replies to some conversations side by side, without rendering their media.

        Arguments and errors are those of ``stream``.

        Yields:
            The number of a conversation, and the next piece of text or medium of its reply.
        """
        required = self._required(modalities)
        options = WritingOptions(seed, required, max_new_tokens, temperature, top_p)
        return write(self.model, conversations, options, self.memory)
