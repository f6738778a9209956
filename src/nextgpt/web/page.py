"""One page: a box to type and drop into, replies as they come, settings, saving and opening."""

from __future__ import annotations

import html
import logging
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from nextgpt.archive import open_saved
from nextgpt.engine import Engine
from nextgpt.events import Done
from nextgpt.generation import ReplyOptions
from nextgpt.media import Medium, load_medium
from nextgpt.messages import Conversation, Message, Part
from nextgpt.web.session import Session
from nextgpt.web.view import NAMES, ReplyView, Shown

logger = logging.getLogger(__name__)

EXAMPLES = (
    "Draw a cat on a yellow background.",
    "Show me a rooster, let me hear a trumpet, and make a short clip of a rocket flying up.",
    "Play me a flute playing two low notes.",
    "What is the capital of France?",
)
FREE, ALWAYS, NEVER = "if asked", "always", "never"
PREVIEW_EVERY = 4
MAX_UPLOAD = "500mb"
KEPT_S = (3600, 24 * 3600)
"""How often gradio looks for files that nobody needs any more, and their age."""
PLACEHOLDER = "Ask for text, pictures, sounds and videos; drop files to talk about them."

MAX_TYPED = 1_000_000
"""Characters; what is longer becomes an attachment when it is pasted, which no model reads."""

CSS = """
.rendering progress { display: block; width: 16rem; max-width: 100%; }
.rendering progress { accent-color: var(--color-accent); }
.rendering img { border-radius: 0.5rem; }
.image-frame img { min-width: 12rem; object-fit: contain !important; }
.example { border: 1px solid var(--border-color-primary); }
/* It would send the conversation to a public site. */
button[aria-label="Share"] { display: none; }
"""
HEAD = """
<meta http-equiv="Content-Security-Policy"
      content="default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:">
"""
"""Nothing that is said, or stands in an opened conversation, makes a browser ask another server."""


class ChatPage:
    """The page's parts and what they do; each browser has its own session."""

    def __init__(self, engine: Engine, card: str = "", resume: Conversation | None = None) -> None:
        """Lay out the page.

        Args:
            engine: Answers.
            card: What is said about the model, Markdown.
            resume: What every new session starts with.
        """
        self.engine = engine
        self.decoders = engine.model.model.decoders
        with gr.Blocks(
            title="nextgpt", fill_height=True, analytics_enabled=False, delete_cache=KEPT_S
        ) as self.blocks:
            self.session = gr.State(Session(resume))
            gr.Markdown("# nextgpt")
            self.chat = gr.Chatbot(
                label="Conversation",
                show_label=False,
                placeholder=PLACEHOLDER,
                examples=[{"text": text} for text in EXAMPLES],
                editable="user",
                feedback_options=None,
                buttons=["copy"],
                scale=1,
                min_height=320,
            )
            self.box = gr.MultimodalTextbox(
                label="Message",
                show_label=False,
                placeholder="Message",
                file_count="multiple",
                sources=["upload", "microphone"],
                autofocus=True,
                max_plain_text_length=MAX_TYPED,
            )
            with gr.Row():
                narrow: dict[str, Any] = {"size": "sm", "min_width": 80}
                self.save_reply = gr.DownloadButton("Save reply", interactive=False, **narrow)
                self.save_all = gr.DownloadButton("Save chat", interactive=False, **narrow)
                self.open = gr.UploadButton("Open chat", file_types=[".zip"], **narrow)
            self.settings = self._settings()
            if card:
                with gr.Accordion("The model, its parts and their licences", open=False):
                    gr.Markdown(card)
            self._connect()

    def _settings(self) -> list[gr.components.Component]:
        """Lay out the drawer; ``_options`` reads what is set, in the same order."""
        with gr.Sidebar(position="right", open=False, label="Settings"):
            gr.Markdown("## Settings")
            fields: list[gr.components.Component] = [
                gr.Slider(0, 2, 0, step=0.1, label="Temperature",
                          info="0 takes the likeliest word"),
                gr.Slider(0.05, 1, 1, step=0.05, label="Top-p"),
                gr.Textbox(label="Seed", placeholder="a new one each time",
                           info="a number; the same one gives the same reply"),
            ]  # fmt: skip
            for modality, decoder in self.decoders.items():
                name = NAMES[modality].capitalize() + "s"
                gr.Markdown(f"### {name}")
                steps, scale = decoder.num_inference_steps, decoder.guidance_scale
                fields += [
                    gr.Radio([FREE, ALWAYS, NEVER], value=FREE, label=f"{name} in a reply"),
                    gr.Slider(1, max(50, steps), steps, step=1, label=f"{name}: steps"),
                    gr.Slider(1, max(15, scale), scale, step=0.5, label=f"{name}: guidance"),
                ]
        return fields

    def _options(self, settings: tuple[Any, ...]) -> ReplyOptions:
        """Read the drawer."""
        temperature, top_p, seed, *rest = settings
        if seed.strip() and not seed.strip().isdecimal():
            raise ValueError(
                f"the seed {seed!r} is no whole number; change or empty it in the drawer"
            )
        choices: dict[str, bool] = {}
        decoding: dict[str, dict[str, float]] = {}
        by_modality = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        for modality, (choice, steps, scale) in zip(self.decoders, by_modality, strict=True):
            if choice != FREE:
                choices[modality] = choice == ALWAYS
            decoding[modality] = {"num_inference_steps": int(steps), "guidance_scale": scale}
        return {
            "seed": int(seed) if seed.strip() else random.randrange(2**31),
            "temperature": temperature,
            "top_p": top_p,
            "modalities": choices,
            "decoding": decoding,
            "preview_every": PREVIEW_EVERY,
        }

    def _connect(self) -> None:
        shown = [self.chat, self.box, self.save_reply, self.save_all]
        # Whoever computes waits in one line; the session is changed in place.
        waiting: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
        at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        talk = [self.session, *self.settings]
        self.box.submit(self.send, [self.box, *talk], shown, **waiting)
        self.chat.example_select(self.example, talk, shown, **waiting)
        self.chat.retry(self.retry, talk, shown, **waiting)
        self.chat.edit(self.edit, talk, shown, **waiting)
        self.box.stop(self.stop, self.session, None, **at_once)
        self.chat.undo(self.undo, self.session, shown, **at_once)
        self.chat.clear(self.clear, self.session, shown, **at_once)
        self.open.upload(self.open_chat, [self.open, self.session], shown)
        # NOTE: without the box, in which somebody quick may have typed already.
        self.blocks.load(self.opened, self.session, [self.chat, *shown[2:]], **at_once)

    # What is shown.

    def still(self, session: Session, typed: Any = None) -> tuple[Any, ...]:
        """Show a session in which nothing happens, with words left in the box."""
        box = gr.MultimodalTextbox(value=typed, submit_btn=True, stop_btn=False)
        files = (gr.DownloadButton(value=str(p) if p else None, interactive=bool(p))
                 for p in session.archives())  # fmt: skip
        return session.shown(), box, *files

    def opened(self, session: Session) -> tuple[Any, ...]:
        """Show a session to whoever has just come; the box stays as it is."""
        messages, _, *files = self.still(session)
        return messages, *files

    def busy(self, before: list[Shown], view: ReplyView, first: bool = False) -> tuple[Any, ...]:
        """Show a reply under way, behind what stood before."""
        box = gr.MultimodalTextbox(value=None, submit_btn=False, stop_btn=True)
        return [*before, view.shown()], box if first else gr.skip(), gr.skip(), gr.skip()

    # What users do.

    def send(self, typed: dict[str, Any], session: Session, *settings: Any) -> Iterator[Any]:
        """Answer what is in the box."""
        try:
            parts: list[Part] = [attached(Path(file)) for file in typed["files"]]
        except ValueError as error:
            yield self._refused(session, error, typed)
            return
        if text := (typed["text"] or "").strip():
            parts.append(text)
        if not parts:
            yield self.still(session)
            return
        session.messages.append(Message("user", parts))
        yield from self.answer(session, settings)

    def answer(self, session: Session, settings: tuple[Any, ...]) -> Iterator[Any]:
        """Answer the last message; a question that cannot be answered goes back into the box."""
        session.stopped.clear()
        started, question = time.perf_counter(), session.messages[-1]
        view, before = ReplyView(session.folder), session.shown()
        yield self.busy(before, view, first=True)
        try:
            options = self._options(settings)
            with closing(self.engine.stream(session.conversation, **options)) as events:
                for event in events:
                    if session.stopped.is_set() or isinstance(event, Done):
                        break
                    view.take(event)
                    yield self.busy(before, view)
        except Exception as error:
            logger.debug("in the web chat", exc_info=True)
            session.take_back(question)
            yield self._refused(session, error, _as_typed(question))
            return
        if question is not session.last:  # the user has cleared the conversation meanwhile
            yield self.still(session)
            return
        if not view.message.parts:
            session.take_back(question)
            yield self.still(session, _as_typed(question))
            return
        stopped = ", stopped" if session.stopped.is_set() else ""
        seconds = time.perf_counter() - started
        session.notes[len(session.messages)] = f"seed {options['seed']}, {seconds:.1f} s{stopped}"
        session.messages.append(view.message)
        yield self.still(session)

    def _refused(self, session: Session, error: Exception, typed: Any) -> tuple[Any, ...]:
        """Say what is wrong; nothing that was typed is lost."""
        expected = isinstance(error, ValueError | OSError)
        name = "" if expected else f"{type(error).__name__}: "
        said = html.escape(name + " ".join(str(error).split()), quote=False)
        gr.Warning(said, title="That cannot be answered")
        return self.still(session, typed)

    def example(self, picked: gr.SelectData, session: Session, *settings: Any) -> Iterator[Any]:
        """Answer an example."""
        yield from self.send({"text": picked.value["text"], "files": []}, session, *settings)

    def retry(self, session: Session, *settings: Any) -> Iterator[Any]:
        """Answer the last question anew; with an empty seed field, from another seed."""
        if (asked := session.last_question) is not None:
            session.cut(asked + 1)
            yield from self.answer(session, settings)

    def edit(self, edited: gr.EditData, session: Session, *settings: Any) -> Iterator[Any]:
        """Send a message again with other words; what came after it is gone."""
        index = edited.index if isinstance(edited.index, int) else edited.index[0]
        [question, *_] = session.cut(index)
        media = [part for part in question.parts if not isinstance(part, str)]
        session.messages.append(Message("user", [*media, str(edited.value)]))
        yield from self.answer(session, settings)

    def stop(self, session: Session) -> None:
        """End the reply under way; what is finished of it stays."""
        session.stopped.set()

    def undo(self, session: Session) -> tuple[Any, ...]:
        """Take back the last question and its reply; the question goes back into the box."""
        if (asked := session.last_question) is None:
            return self.still(session)
        return self.still(session, _as_typed(session.cut(asked)[0]))

    def clear(self, session: Session) -> tuple[Any, ...]:
        """Start anew."""
        session.stopped.set()
        session.cut(0)
        return self.still(session)

    def open_chat(self, file: str, session: Session) -> tuple[Any, ...]:
        """Go on with a conversation that was saved."""
        folder = session.folder / f"opened-{time.time_ns()}"
        try:
            conversation = open_saved(Path(file), folder)
            for medium in (medium for message in conversation.messages for medium in message.media):
                medium.check()
        except ValueError as error:
            shorter = str(error).replace(str(folder), "it").replace(file, Path(file).name)
            return self._refused(session, ValueError(shorter), None)
        session.cut(0)
        session.messages.extend(conversation.messages)
        return self.still(session)


def attached(path: Path) -> Medium:
    """Take an uploaded file; an error calls it as the user does, not by its place here."""
    try:
        return load_medium(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error


def _as_typed(message: Message) -> dict[str, Any]:
    """Put a message back into the form of the box."""
    return {"text": message.text, "files": [str(m.path) for m in message.media if m.path]}


def serve(
    engine: Engine,
    card: str = "",
    resume: Conversation | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> None:
    """Serve the page until the process is stopped.

    Args:
        engine: Answers.
        card: What is said about the model, Markdown.
        resume: What every new session starts with.
        host: Address to listen at; 0.0.0.0 lets other machines in.
        port: Its port; the first free one from 7860 on by default.
    """
    theme = gr.themes.Soft(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(  # The theme's own are too pale to be read by everybody.
        block_title_text_color="*primary_700",
        block_info_text_color="*neutral_600",
        body_text_color_subdued="*neutral_600",
    )
    ChatPage(engine, card, resume).blocks.queue().launch(
        server_name=host,
        server_port=port,
        css=CSS,
        head=HEAD,
        theme=theme,
        max_file_size=MAX_UPLOAD,
        footer_links=[],
    )
