"""Chatting with a model: a reply as a stream of text and media."""

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict, Unpack

import torch

from nextgpt import checkpoint, sharing
from nextgpt.events import Done, Event, MediaStarted, PartialReply, TextDelta
from nextgpt.media import Medium
from nextgpt.memory import Memory
from nextgpt.messages import Conversation, Message, Part
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel
from nextgpt.placement import Placement
from nextgpt.rendering import Rendering
from nextgpt.writing import WritingOptions, Written, write

Modalities = Sequence[str] | Mapping[str, bool] | None
"""A list names the media that a reply must hold, each at least once, and no others; an empty one
forbids all media. ``{"image": True, "video": False}`` asks for a picture, forbids videos and leaves
the rest to the model, which decides everything where None is given."""

Decoding = Mapping[str, Mapping[str, float]]
"""By modality ``num_inference_steps`` and ``guidance_scale``, where not the decoder's own."""


class SamplingOptions(TypedDict, total=False):
    """How the text of a reply is written."""

    seed: int
    """The same seed gives the same reply; 0 by default. Medium ``i`` is drawn with ``seed + i``."""
    max_new_tokens: int
    """Tokens of the reply at most, 256 by default; a started run is always finished."""
    temperature: float
    """0, the default, takes the most likely token."""
    top_p: float
    """Samples from the smallest set of tokens with this probability; 1 by default."""


class ReplyOptions(SamplingOptions, total=False):
    """How a reply is made."""

    modalities: Modalities
    decoding: Decoding
    preview_every: int
    """Steps between previews of a medium; without, there are none."""


class NextGPT:
    """A model that one can chat with.

    It remembers features and the conversations of late, so its model's weights must stay.
    """

    def __init__(self, model: NextGPTModel, home: Path | None = None) -> None:
        """Wrap a chain, which is put into evaluation mode.

        Args:
            model: The chain.
            home: The checkpoint directory that it came from.
        """
        self.model = model.eval()
        self.home = home
        self.memory = Memory()

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path | None = None,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        offload: Collection[str] = (),
        keep_decoders: int | None = None,
    ) -> "NextGPT":
        """Load a checkpoint; without one, the micro model that ships with nextgpt.

        `docs/scale.md` says what each choice takes of the memory at the paper's scale.

        Args:
            directory: A checkpoint directory, or a repository of the Hugging Face hub as
                ``hf:owner/name@revision``.
            device: Where parts compute: "cpu", "cuda", "cuda:1", "mps".
            dtype: Precision of all frozen parts, such as "bfloat16"; each part's own by default.
            offload: Parts that rest in the processor's memory: encoder, language_model, decoders.
                Then media are rendered when the text is complete.
            keep_decoders: Decoders that stay in memory, those used last; all by default.

        Raises:
            ValueError: the directory or one of its files is missing or does not fit, or there is
                no such device, precision or part.
        """
        placement = Placement(device, offload, keep_decoders)
        home = checkpoint.find(directory or checkpoint.shipped_model())
        model = checkpoint.load(home, dtype)
        model.language_model.merge_lora()
        model.place(placement)
        return cls(model, home)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a checkpoint directory that ``from_pretrained`` reads.

        It holds what was trained, as float16, and the parts that the model's own directory holds;
        other parts are named by their sources.

        Raises:
            ValueError: the model did not come from a checkpoint.
        """
        sharing.save_copy(self.model, self._home, Path(directory))

    def push_to_hub(
        self, repository: str, *, private: bool = False, message: str = "Upload nextgpt model"
    ) -> str:
        """Upload what ``save_pretrained`` writes to the Hugging Face hub.

        Args:
            repository: ``owner/name``; is made if need be.
            private: Whether a repository made here is private.
            message: Of the commit.

        Returns:
            What ``from_pretrained`` takes: ``hf:owner/name@commit``.

        Raises:
            ValueError: a part is a directory that only this machine has, the hub refuses, or the
                model did not come from a checkpoint.
        """
        return sharing.push(self.model, self._home, repository, private, message)

    @property
    def _home(self) -> Path:
        if self.home is None:
            raise ValueError(
                "this model did not come from a checkpoint directory, so its configuration is not "
                "known; write it with nextgpt.checkpoint.save"
            )
        return self.home

    def chat(
        self,
        parts: str | Medium | Sequence[Part] | Conversation,
        **options: Unpack[ReplyOptions],
    ) -> Message:
        """Answer one message, or the last message of a conversation.

        See ``stream`` for the options.
        """
        if isinstance(parts, Conversation):
            conversation = parts
        else:
            single = (parts,) if isinstance(parts, str | Medium) else parts
            conversation = Conversation().user(*single)
        for event in self.stream(conversation, **options):
            if isinstance(event, Done):
                return event.message
        raise AssertionError("a stream ends with Done")

    @torch.inference_mode()
    def stream(
        self,
        conversation: Conversation,
        *,
        modalities: Modalities = None,
        decoding: Decoding | None = None,
        preview_every: int = 0,
        **sampling: Unpack[SamplingOptions],
    ) -> Generator[Event, None, None]:
        """Answer the last message of a conversation, which is left as it is.

        Args:
            conversation: Ends with a user message.
            modalities: See ``Modalities``.
            decoding: See ``Decoding``.
            preview_every: Steps between previews of a medium; 0 for none.
            sampling: See ``SamplingOptions``.

        Yields:
            Events; the last one is ``Done``. Text goes on while media render, a piece a step.
            Everything is computed by the thread that iterates, which must stay the same; closing
            the stream stops within a step.

        Raises:
            ValueError: the conversation or an option cannot be used.
        """
        started = time.perf_counter()
        timings: dict[str, float] = {}
        reply = PartialReply()
        rendering = Rendering(
            self.model.decoders,
            sampling.get("seed", 0),
            self._decoding(decoding or {}),
            preview_every,
            self.model.placement,
        )
        # Else parts that share a device would change places at every step.
        in_turns = not self.model.placement.is_shared
        writing = self.write([conversation], modalities=modalities, **sampling)
        with closing(writing), closing(rendering):
            while True:
                _, new = next(writing, (0, None))
                timings.setdefault("first_token_s", time.perf_counter() - started)
                written: Event | None = None
                if isinstance(new, str):
                    written = TextDelta(new)
                elif new is not None:
                    written = MediaStarted(rendering.ask(new), new.modality)
                else:
                    timings.setdefault("text_s", time.perf_counter() - started)
                if written is not None:
                    reply.take(written)
                    yield written
                rendered = rendering.step() if in_turns or written is None else None
                if rendered is not None:
                    reply.take(rendered)
                    yield rendered
                elif written is None:
                    break
        timings["total_s"] = time.perf_counter() - started
        yield Done(reply.message, timings)

    def write(
        self,
        conversations: Sequence[Conversation],
        *,
        modalities: Modalities = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Generator[tuple[int, Written], None, None]:
        """Write the replies to some conversations side by side, without rendering their media.

        Arguments and errors are those of ``stream``.

        Yields:
            The number of a conversation, and the next piece of text or medium of its reply.
        """
        required, forbidden = self._chosen(modalities)
        options = WritingOptions(required=required, forbidden=forbidden, **sampling)
        return write(self.model, conversations, options, self.memory)

    def _known(self, name: str) -> Modality:
        """Check the name of a modality that the model answers in."""
        available = self.model.language_model.signals.modalities
        if name not in available:
            raise ValueError(
                f"this model cannot answer in {name!r}; choose from text, {', '.join(available)}"
            )
        return Modality(name)

    def _chosen(self, modalities: Modalities) -> tuple[set[Modality], set[Modality]]:
        """Say which modalities a reply must hold, and which it must not."""
        if modalities is None:
            return set(), set()
        if isinstance(modalities, Mapping):
            choices = {self._known(name): choice for name, choice in modalities.items()}
        else:
            wanted = {self._known(name) for name in modalities if name != Modality.TEXT}
            choices = {
                name: name in wanted for name in self.model.language_model.signals.modalities
            }
        required = {name for name, choice in choices.items() if choice}
        return required, choices.keys() - required

    def _decoding(self, decoding: Decoding) -> dict[Modality, Mapping[str, float]]:
        for name, settings in decoding.items():
            if unknown := set(settings) - {"num_inference_steps", "guidance_scale"}:
                raise ValueError(
                    f"decoding of {name}: {sorted(unknown)[0]!r} is unknown; give "
                    "num_inference_steps and guidance_scale"
                )
        return {self._known(name): settings for name, settings in decoding.items()}
