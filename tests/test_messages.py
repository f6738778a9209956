"""Messages and conversations: order, JSON both ways, and paths that stay inside their folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextgpt.media import Audio, Image, Video, load_medium
from nextgpt.messages import Conversation, Message


def conversation() -> Conversation:
    picture = Image(np.full((8, 8, 3), 9, np.uint8), caption="a grey square", seed=3)
    sound = Audio(np.zeros(800, np.float32), 8000)
    video = Video(np.full((2, 16, 16, 3), 90, np.uint8), 4.0)
    return (
        Conversation([Message("system", ["Be brief."])])
        .user("What is this?", picture, "And this? äß", sound)
        .assistant("A square. ", video, Image(np.zeros((4, 4, 3), np.uint8)), "Silence.")
    )


def kinds(message: Message) -> list[str]:
    return [part if isinstance(part, str) else type(part).__name__ for part in message.parts]


def test_a_message_keeps_the_order_of_its_parts() -> None:
    reply = conversation().messages[-1]
    assert kinds(reply) == ["A square. ", "Video", "Image", "Silence."]
    assert reply.text == "A square. Silence."
    assert [type(part) for part in reply.media] == [Video, Image]
    assert (len(reply.images), len(reply.audios), len(reply.videos)) == (1, 0, 1)


def test_a_saved_conversation_reads_back(tmp_path: Path) -> None:
    path = conversation().save(tmp_path / "chat")
    again = Conversation.from_json(path)
    assert [(message.role, kinds(message)) for message in again.messages] == [
        (message.role, kinds(message)) for message in conversation().messages
    ]
    picture = again.messages[1].images[0]
    assert (picture.caption, picture.seed) == ("a grey square", 3)
    assert np.array_equal(np.asarray(picture.pil), np.full((8, 8, 3), 9))
    assert [load_medium(file).modality for file in sorted(path.parent.glob("0*"))] == [
        "audio", "image", "image", "video",
    ]  # fmt: skip


def test_the_json_is_what_chat_apis_use(tmp_path: Path) -> None:
    data = conversation().to_json(tmp_path)
    assert data["messages"][1] == {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image", "path": "001-image-1.png", "caption": "a grey square", "seed": 3},
            {"type": "text", "text": "And this? äß"},
            {"type": "audio", "path": "001-audio-1.wav"},
        ],
    }
    assert Conversation.from_json({"messages": [{"role": "user", "content": "Hi"}]}).messages == [
        Message("user", ["Hi"])
    ]


def test_a_saved_message_names_its_files_in_reply_order(tmp_path: Path) -> None:
    paths = conversation().messages[-1].save(tmp_path / "reply")
    assert [path.name for path in paths] == ["video-1.mp4", "image-1.png", "message.json"]
    assert all(path.is_file() for path in paths)
    data = json.loads(paths[-1].read_text(encoding="utf-8"))
    assert kinds(Message.from_json(data, tmp_path / "reply")) == kinds(conversation().messages[-1])


def test_media_outside_of_their_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    secret = Image(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(secret)
    for path in ("../secret.png", str(secret), "link.png"):
        data = {"messages": [{"role": "user", "content": [{"type": "image", "path": path}]}]}
        with pytest.raises(
            ValueError, match=rf"messages\[0\]\.content\[0\]\.path: '{path}' is outside"
        ):
            Conversation.from_json(data, root)
        with pytest.raises(ValueError, match="without a media folder"):
            Conversation.from_json(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([], "messages: None is no list"),
        ({"messages": {}}, "messages: {} is no list"),
        ({"messages": ["hi"]}, r"messages\[0\]: 'hi' is no object"),
        (
            {"messages": [{"role": "robot", "content": ""}]},
            r"messages\[0\]\.role: 'robot' is unknown",
        ),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]\.content: None is neither"),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
            r"content\[0\]\.type: 'smell' is",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": ["image"]}]}]},
            r"content\[0\]\.type: \['image'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
            r"\.text: 3 is no string",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            r"\.path: None has the wrong type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "path": "gone.png"}]}]},
            r"content\[0\]\.path: no such file .*gone\.png",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "path": "a.png", "size": 1}]}
                ]
            },
            "unknown key 'size'",
        ),
    ],
)
def test_bad_json_is_refused_with_its_place(tmp_path: Path, data: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Conversation.from_json(data, tmp_path)
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=rf"conversation\.json: .*{error}"):
        Conversation.from_json(path)


def test_a_broken_json_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"messages": [')
    with pytest.raises(ValueError, match=r"broken\.json: cannot be read as JSON"):
        Conversation.from_json(tmp_path / "broken.json")


@pytest.mark.parametrize(
    ("role", "parts", "error"),
    [
        ("robot", [], "role 'robot'"),
        ("user", [3], "part of type int"),
        ("user", "hi", "parts of type str"),
    ],
)
def test_what_is_no_message_is_refused(role: Any, parts: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Message(role, parts)
