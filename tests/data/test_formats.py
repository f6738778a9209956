"""Formats of other projects: what a record says is in the manifest, and comes back from there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from data_formats import DOCUMENTED, UNKNOWN, WRITTEN, Writer

from nextgpt.data.formats import FORMATS, Folders
from nextgpt.data.formats.containers import JsonList
from nextgpt.data.rows import Row

FACTS = {"source": "test", "licence": "MIT", "split": "train"}
FOLDERS = Folders("the media", "npy")
CASES = 150


def row_of(name: str, record: Any, folders: Folders = FOLDERS) -> Row:
    return FORMATS[name].schema.row(record, 7, FACTS, folders)


def test_every_list_of_json_has_its_records_here() -> None:
    lists = {name for name, form in FORMATS.items() if isinstance(form.container, JsonList)}
    assert DOCUMENTED.keys() == WRITTEN.keys() == lists


@pytest.mark.parametrize("folders", [Folders(), FOLDERS], ids=["flat", "folders"])
@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_is_lost_there_and_back(name: str, folders: Folders) -> None:
    for number in range(CASES):
        record = WRITTEN[name](Writer(f"{name} {number}"))
        row = row_of(name, record, folders)
        assert not row.extra.keys() & {"conversation", "conversations"}
        line = json.dumps(row.to_json())
        back = FORMATS[name].schema.record(Row.from_json(json.loads(line)), folders)
        assert json.dumps(back, sort_keys=True) == json.dumps(record, sort_keys=True)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_has_a_name_is_in_a_field_of_that_name_and_nothing_else_is_kept(name: str) -> None:
    row = row_of(name, DOCUMENTED[name])
    assert not row.extra
    assert not [message for message in row.messages if "extra" in message]
    assert not [part for _, part in row.media() if "extra" in part]
    row = row_of(name, {**DOCUMENTED[name], **UNKNOWN})
    assert row.extra == UNKNOWN


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("cc3m", [("user", "image", "the media/0001.jpg", "a dog", None)]),
        ("comprehension", [("user", "image", "the media/0001.jpg", None, None)]),
        (
            "generation",
            [
                ("assistant", "audio", "the media/106158.wav", "a train runs",
                 "npy/106158.wav.npy")
            ],
        ),
        ("t2x", [("assistant", "image", "the media/0001.jpg", "a dog", None)]),
        ("unified", [("user", "image", "the media/0001.jpg", None, None)]),
        ("instruction", [("assistant", "audio", "the media/34706.wav", "rain",
                          "npy/34706.wav.npy")]),
        ("mosit", [("assistant", "image", "the media/mosit_i_00.jpg", "a tent", None),
                   ("user", "audio", "the media/mosit_a_00.wav", "an owl", None)]),
        ("llava", [("user", "image", "the media/coco/000000033471.jpg", None, None)]),
    ],
)  # fmt: skip
def test_media_are_parts_with_path_caption_and_conditioning(
    name: str, media: list[tuple[str, ...]]
) -> None:
    found = [
        (role, part["type"], part["path"], part.get("caption"), part.get("conditioning"))
        for role, part in row_of(name, DOCUMENTED[name]).media()
    ]
    assert found == media


def test_media_stand_where_their_placeholders_stood() -> None:
    row = row_of("mosit-instruction", DOCUMENTED["mosit-instruction"])
    said = [part.get("text", part.get("caption")) for role, part in row.parts()]
    assert said == ["I go camping.", "a tent", " or ", "a fire", "?"]


def test_ids_are_the_originals_or_numbers_of_the_source() -> None:
    assert row_of("webvid", DOCUMENTED["webvid"]).id == "12949985"
    assert row_of("generation", DOCUMENTED["generation"]).id == "test-00000007"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cc3m", {"caption": 3}, "caption: 3 is no string"),
        ("cc3m", {"image_name": None}, "image_name is missing; a pair has caption, image_name"),
        ("cc3m", {"image_name": "../up.jpg"}, r"'\.\./up\.jpg' is outside"),
        ("cc3m", {"image_name": "/etc/passwd"}, "'/etc/passwd' is outside"),
        ("cc3m", {"image_name": "https://example.org/a.jpg"}, "is an address"),
        ("llava", {"image": ["a.jpg", "b.jpg"]}, "names 2 image for the user.*have 1 <image>"),
        ("llava", {"image": [5]}, "5 is no file name"),
        ("generation", {"audio_captions": ["a", "b"]}, "1 output_audio, 2 audio_captions"),
        ("generation", {"conversations": {}}, "conversations: {} is no list"),
        ("instruction", {"audio_caption_embeddings": ["a.wav"]}, "'a.wav' is not named like"),
        ("instruction", {"audio_caption_embeddings": []}, "neither output_audio nor"),
        ("unified", {"image_name": None}, "image_name: None is no string"),
        ("mosit", {"image_list": None}, "image_list: None is no list"),
        ("mosit", {"image_list": [{}]}, r"image_list\[0\]: image_name"),
    ],
)  # fmt: skip
def test_a_record_that_makes_no_row_says_which_key(
    name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        row_of(name, DOCUMENTED[name] | changes)


@pytest.mark.parametrize(
    ("name", "turn", "message"),
    [
        ("llava", {"from": "robot", "value": "hi"}, r"conversations\[2\]: from: 'robot'"),
        ("llava", {"from": "human"}, r"conversations\[2\]: value: None"),
        ("llava", "hi", r"conversations\[2\]: expected an object, found str"),
        ("llava", {"from": "human", "value": "<image>"}, "one <image> more than the 1 image"),
        ("unified", {"from": "human", "value": "", "input_modality": "smell"}, "'smell'"),
    ],
)  # fmt: skip
def test_a_turn_that_cannot_be_used_says_which(name: str, turn: Any, message: str) -> None:
    key = "conversation" if name == "unified" else "conversations"
    record = DOCUMENTED[name]
    with pytest.raises(ValueError, match=message):
        row_of(name, {**record, key: [*record[key], turn]})


def test_a_medium_without_a_place_is_refused() -> None:
    record = json.loads(json.dumps(DOCUMENTED["unified"]))
    record["conversation"][0]["input_modality"] = "text"
    with pytest.raises(ValueError, match="'0001.jpg' has no place"):
        row_of("unified", record)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("cc3m", "cc3m-csv"),
        ("cc3m", "cc3m-shards"),
        ("comprehension", "llava"),
        ("llava", "comprehension"),
        ("generation", "mosit-instruction"),
        ("unified", "llava"),
        ("t2x", "generation"),
        ("generation", "instruction"),
    ],
)
def test_one_format_becomes_another_that_can_hold_it(source: str, target: str) -> None:
    row = row_of(source, DOCUMENTED[source])
    record = FORMATS[target].schema.record(row, FOLDERS)
    again = row_of(target, record)
    assert [*again.parts()] == [*row.parts()]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("comprehension", "cc3m", "is no pair"),
        ("cc3m", "audiocap", "is no pair of one audio"),
        ("cc3m", "webvid-csv", "is no pair of one video"),
        ("mosit-instruction", "t2x", "has 2 media"),
        ("cc3m", "llava", r"messages\[0\]: such records cannot hold .*'caption': 'a dog'"),
        ("mosit", "mosit-instruction", r"messages\[2\]: such records cannot hold .*an owl"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(source: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FORMATS[target].schema.record(row_of(source, DOCUMENTED[source]), FOLDERS)


def test_what_a_format_cannot_hold_is_left_out_on_request() -> None:
    row = row_of("mosit", DOCUMENTED["mosit"])
    record = FORMATS["mosit-instruction"].schema.record(row, FOLDERS, lossy=True)
    assert record["image_captions"] == ["a tent"]
    assert record["input_audio"] == ["mosit_a_00.wav"]


def test_a_medium_outside_of_the_folder_of_media_is_refused() -> None:
    row = row_of("cc3m", DOCUMENTED["cc3m"], Folders("elsewhere"))
    with pytest.raises(ValueError, match="'elsewhere/0001.jpg' is not in the folder 'the media'"):
        FORMATS["cc3m"].schema.record(row, FOLDERS)
