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
import torch
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from nextgpt import Audio, Conversation, Image, Message, NextGPT, Video
from nextgpt.checkpoint import shipped_model
from nextgpt.cli import main
from nextgpt.decoders.vocoder import GriffinLim
from nextgpt.evaluation.metrics import background_of, concepts_named
from nextgpt.evaluation.pitch import track_pitch
from nextgpt.media.log_mel import griffin_lim, log_mel
from nextgpt.training.parts.vocoder import log_spectral_distance_db
from nextgpt.world.motions import MOTIONS
from nextgpt.world.sounds import SOUNDS


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


def plucked(keys: np.ndarray) -> torch.Tensor:
    """Notes with harmonics that fade, as of a plucked string; nobody trained on them."""
    times = np.arange(40_960) / 16_000
    frequencies_hz = 440 * 2 ** ((keys[:, None] - 69) / 12)
    tones = [np.sin(2 * np.pi * frequencies_hz * k * times) / k**1.3 for k in range(1, 9)]
    return torch.from_numpy(0.2 * sum(tones) * np.exp(-times)).float()


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
    # Three in four drawings are right, and three in four captions; chance is one in forty.
    recognised = []
    for concept in ("dog", "cat", "violin", "rocket", "banana", "airplane", "horse", "car"):
        drawn = model.chat(f"Draw the {concept} on a blue background.", seed=1)
        reply = model.chat(["What is in this picture?", *drawn.images], seed=1)
        recognised.append(concepts_named(reply.text) == {concept})
    assert sum(recognised) >= 3


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


@cache
def trumpet(model: NextGPT) -> Message:
    return model.chat("Let me hear a trumpet playing three high notes.", seed=1)


@cache
def rocket(model: NextGPT) -> Message:
    return model.chat("Make a clip of a rocket moving up on a black background.", seed=1)


def is_heard(sound: Audio) -> bool:
    """Whether it has the length the model makes and more than silence or one level in it."""
    if (sound.sample_rate_hz, round(sound.duration_s, 2)) != (16_000, 2.56):
        return False
    loudness = [float(part.std()) for part in np.array_split(sound.waveform[0], 16)]
    return max(loudness) > 0.03 and min(loudness) < 0.7 * max(loudness)


def moves(clip: Video) -> bool:
    """Whether it has eight frames in which something changes."""
    frames = clip.frames(8).astype(int)
    return frames.shape == (8, 64, 64, 3) and float(np.abs(np.diff(frames, axis=0)).mean()) > 1


def test_a_request_for_a_sound_is_played(model: NextGPT) -> None:
    reply = trumpet(model)
    assert kinds(reply) == ["audio"]
    assert "trumpet" in reply.text
    assert is_heard(reply.audios[0])


def test_a_request_for_a_clip_is_animated_as_asked(model: NextGPT) -> None:
    reply = rocket(model)
    assert kinds(reply) == ["video"]
    assert moves(reply.videos[0])
    middle = PIL.Image.fromarray(reply.videos[0].frames(8)[4])
    assert background_of(middle) == "black"


def test_three_media_come_in_the_order_asked(model: NextGPT) -> None:
    question = (
        "show me a rooster, let me hear a trumpet, and make a short clip of a rocket flying up"
    )
    reply = model.chat(question, seed=1)
    assert kinds(reply) == ["image", "audio", "video"]
    assert is_drawn(reply.images[0]) and is_heard(reply.audios[0]) and moves(reply.videos[0])
    named = [concepts_named(part) for part in reply.parts if isinstance(part, str)]
    assert named[0] == {"rooster"} and named[-1] == {"rocket"}


def test_sounds_and_clips_of_its_own_are_described(model: NextGPT) -> None:
    heard = model.chat(["What do you hear?", trumpet(model).audios[0]], seed=1)
    seen = model.chat(["What is happening in this clip?", rocket(model).videos[0]], seed=1)
    assert kinds(heard) == kinds(seen) == []
    assert any(word in heard.text for word in SOUNDS)
    assert any(phrase in seen.text for phrase in MOTIONS.values())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("image", "StableDiffusion"), ("audio", "AudioLDM"), ("video", "TextToVideoSD")],
)
def test_each_decoder_opens_with_diffusers_alone(name: str, kind: str) -> None:
    import diffusers

    pipeline_class = getattr(diffusers, f"{kind}Pipeline")
    pipeline = pipeline_class.from_pretrained(shipped_model() / name)
    length = {"audio": {"audio_length_in_s": 2.56}}.get(name, {})
    output = pipeline("a dog", num_inference_steps=1, output_type="np", **length)
    made = output[0] if name != "image" else output.images
    assert np.isfinite(np.asarray(made)).all()


def test_the_vocoder_is_nearer_to_real_notes_than_griffin_lim() -> None:
    vocoder = SpeechT5HifiGan.from_pretrained(shipped_model() / "audio" / "vocoder").eval()
    real = plucked(np.array([50, 57, 64, 72, 79]))
    log_mels = log_mel(real, vocoder.config.model_in_dim)
    with torch.inference_mode():
        ours = log_spectral_distance_db(vocoder(log_mels.transpose(1, 2)), real)
        theirs = log_spectral_distance_db(griffin_lim(log_mels), real)
    assert float(ours.mean()) < float(theirs.mean())


def test_the_sound_decoder_keeps_the_pitch_of_real_notes() -> None:
    config = SpeechT5HifiGanConfig.from_pretrained(shipped_model() / "audio" / "vocoder")
    keys = np.arange(36, 85, 4)
    sounds = GriffinLim(config)(log_mel(plucked(keys), config.model_in_dim).transpose(1, 2))
    heard = [np.median(track_pitch(sound.numpy()).keys) for sound in sounds]
    # Half a semitone: a note is nearer to its own key than to the next. Measured 0.07.
    assert np.abs(heard - keys).max() < 0.5


def test_the_shipped_weights_stay_small() -> None:
    files = [path for path in shipped_model().rglob("*") if not path.is_symlink()]
    # What a link leads to is stored once.
    sizes = {path.resolve(): path.stat().st_size for path in files if path.is_file()}
    assert sum(sizes.values()) < 128e6


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
