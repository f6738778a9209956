"""The shipped micro model answers one request of each kind it knows.

One sample a kind, so these only show that the whole is there and works; how well it works is
measured by ``nextgpt test -c configs/micro.yaml``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from nextgpt import Conversation, Image, Message, NextGPT
from nextgpt.cli import main
from nextgpt.evaluation.metrics import background_of, concepts_named


@pytest.fixture(scope="module")
def model() -> NextGPT:
    return NextGPT.from_pretrained()


def rainbow() -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", (512, 512), (250, 215, 80))
    draw = PIL.ImageDraw.Draw(picture)
    colours = ((220, 40, 40), (245, 140, 30), (250, 220, 60), (60, 170, 70), (50, 110, 220))
    for number, colour in enumerate((*colours, (130, 60, 170), (250, 215, 80))):
        radius = 200 - 22 * number
        draw.pieslice([256 - radius, 330 - radius, 256 + radius, 330 + radius], 180, 360, colour)
    return picture


def apple() -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", (512, 512), (60, 110, 220))
    draw = PIL.ImageDraw.Draw(picture)
    for left in (110, 222):
        draw.ellipse([left, 150, left + 180, 430], (220, 40, 45))
    draw.line([256, 180, 275, 90], (110, 70, 40), 16)
    draw.ellipse([270, 90, 360, 140], (80, 170, 60))
    return picture


def kinds(reply: Message) -> list[str]:
    return [medium.modality for medium in reply.media]


def is_drawn(picture: Image) -> bool:
    """Whether it is more than one even colour."""
    return picture.size == (64, 64) and float(np.asarray(picture.pil).std()) > 15


@cache
def drawing(model: NextGPT) -> Message:
    return model.chat("Draw a dog on a blue background.", seed=1)


def test_plain_chat_is_answered_in_text_alone(model: NextGPT) -> None:
    reply = model.chat("Hello! How are you today?", seed=1)
    assert kinds(reply) == []
    assert reply.text.strip()


# Drawn here, so nobody's artwork and nothing that was trained on. Of seven things drawn like this,
# each on three backgrounds, two that the encoder alone tells from every other concept with ease.
# With an untrained projection the language model names neither.
@pytest.mark.parametrize("picture", [rainbow, apple])
def test_a_picture_is_named(model: NextGPT, picture: Callable[[], PIL.Image.Image]) -> None:
    reply = model.chat(["What is in this picture?", Image(picture())], seed=1)
    assert kinds(reply) == []
    assert concepts_named(reply.text) == {picture.__name__}


def test_a_request_for_a_picture_is_drawn_as_asked(model: NextGPT) -> None:
    reply = drawing(model)
    assert kinds(reply) == ["image"]
    assert is_drawn(reply.images[0])
    assert background_of(reply.images[0].pil) == "blue"
    assert reply.images[0].seed == 1


def test_the_model_recognises_what_it_drew(model: NextGPT) -> None:
    reply = model.chat(["What is in this picture?", drawing(model).images[0]], seed=1)
    assert concepts_named(reply.text) == {"dog"}


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(model: NextGPT) -> None:
    first = drawing(model)
    again, other = (model.chat("Draw a dog on a blue background.", seed=seed) for seed in (1, 2))
    assert again.text == first.text
    assert again.images[0].content_hash() == first.images[0].content_hash()
    assert other.images[0].content_hash() != first.images[0].content_hash()


def test_two_pictures_in_one_reply(model: NextGPT) -> None:
    question = "Draw two pictures: a cat on a red background, and a banana on a green background."
    reply = model.chat(question, seed=1)
    assert kinds(reply) == ["image", "image"]
    assert [background_of(picture.pil) for picture in reply.images] == ["red", "green"]


def test_a_second_turn_edits_the_picture_of_the_first(model: NextGPT) -> None:
    conversation = Conversation().user("Draw a dog on a blue background.")
    conversation.messages.append(drawing(model))
    reply = model.chat(conversation.user("Now on a red background."), seed=1)
    assert kinds(reply) == ["image"]
    assert background_of(reply.images[0].pil) == "red"


def test_a_picture_can_be_forced_and_forbidden(model: NextGPT) -> None:
    assert kinds(model.chat("Hello!", seed=1, modalities=["image"])) == ["image"]
    assert kinds(model.chat("Draw a dog.", seed=1, modalities=[])) == []


def test_the_command_line_answers_with_the_shipped_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seed", "1", "--json", "--out", str(tmp_path)]
    assert main(["chat", "--once", "Draw a dog on a blue background.", *options]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert [part["seed"] for part in parts if part["type"] == "image"] == [1]
