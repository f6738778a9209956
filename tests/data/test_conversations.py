"""Sources of conversations: endless, reproducible, every item once a round."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextgpt.data.conversations import (
    CaptionToMedium,
    ConversationSource,
    ManifestSource,
    MediumToCaption,
    medium_of,
)
from nextgpt.data.manifest import Item, write_manifest
from nextgpt.modality import Modality

SOURCES: list[type[ManifestSource]] = [MediumToCaption, CaptionToMedium]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures, two of them with one caption, and two sounds; a picture for validation."""

    def item(modality: str, number: int, split: str) -> Item:
        suffix = {"image": "png", "audio": "wav"}[modality]
        caption = f"{modality} {min(number, 6)}"
        name = f"media/{modality}-{number}.{suffix}"
        return Item(f"{split}-{name}", modality, name, caption, "dog", {}, "", "MIT", split)

    items = [item("image", number, "train") for number in range(8)]
    items += [item("audio", number, "train") for number in range(2)]
    path = tmp_path_factory.mktemp("world") / "manifest.jsonl"
    write_manifest(path, [*items, item("image", 99, "validation")])
    return path


def seen(source: ConversationSource, indices: range) -> list[str]:
    """The caption of each conversation, which stands on one of its sides."""
    return [
        "".join(message.text for message in source.conversation(index).messages)
        for index in indices
    ]


def shape(source: ConversationSource) -> list[tuple[str, list[str]]]:
    return [
        (message.role, ["text" if isinstance(p, str) else p.modality for p in message.parts])
        for message in source.conversation(0).messages
    ]


def test_a_medium_is_shown_and_its_caption_answered(manifest: Path) -> None:
    source = MediumToCaption(manifest, modalities=["image"])
    assert shape(source) == [("user", ["image"]), ("assistant", ["text"])]
    question, answer = source.conversation(0).messages
    assert answer.parts == [question.images[0].caption]


def test_a_caption_is_said_and_its_medium_answered(manifest: Path) -> None:
    source = CaptionToMedium(manifest, modalities=["audio"])
    assert shape(source) == [("user", ["text"]), ("assistant", ["audio"])]
    question, answer = source.conversation(0).messages
    assert question.parts == [answer.audios[0].caption]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_item_comes_once_a_round_and_rounds_differ(
    kind: type[ManifestSource], manifest: Path
) -> None:
    source = kind(manifest)
    first, second, third = (seen(source, range(start, start + 10)) for start in (0, 10, 20))
    captions = sorted(item.caption for item in source.items)
    assert sorted(first) == sorted(second) == sorted(third) == captions
    assert len({tuple(each) for each in (first, second, third)}) == 3


@pytest.mark.parametrize("kind", SOURCES)
def test_a_conversation_depends_on_its_number_alone(
    kind: type[ManifestSource], manifest: Path
) -> None:
    forward = seen(kind(manifest, seed=3), range(25))
    backward = seen(kind(manifest, seed=3), range(24, -1, -1))
    assert forward == backward[::-1]
    assert forward != seen(kind(manifest, seed=4), range(25))


@pytest.mark.parametrize("kind", SOURCES)
def test_items_are_chosen_by_split_modality_and_number(
    kind: type[ManifestSource], manifest: Path
) -> None:
    assert [item.caption for item in kind(manifest, split="validation").items] == ["image 6"]
    assert {item.modality for item in kind(manifest, modalities=["audio"]).items} == {"audio"}
    assert len(kind(manifest, num_items=100).items) == 10
    chosen = [kind(manifest, num_items=5, seed=seed).items for seed in (0, 0, 1)]
    assert [len(set(item.id for item in items)) for items in chosen] == [5, 5, 5]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"split": "tset"}, "'tset'"), ({"modalities": ["video"]}, "manifest.jsonl")],
)
def test_a_choice_without_items_is_named(
    manifest: Path, options: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        MediumToCaption(manifest, **options).conversation(0)  # type: ignore[arg-type]


def test_a_source_names_what_can_be_computed_beforehand(manifest: Path) -> None:
    shown, asked = MediumToCaption(manifest), CaptionToMedium(manifest)
    assert len(shown.media()) == 10
    assert shown.captions() == []
    assert asked.media() == []
    captions = [medium.caption for medium in asked.captions()]
    assert sorted(map(str, captions)) == sorted(item.caption for item in asked.items)
    assert (len(captions), len(set(captions))) == (10, 9)
    known = {medium.name for medium in shown.media()}
    for index in range(20):
        assert shown.conversation(index).messages[0].media[0].name in known


def test_a_path_is_relative_to_the_manifest(manifest: Path) -> None:
    item = next(item for item in MediumToCaption(manifest).items if item.modality == "audio")
    medium = medium_of(item, manifest)
    assert medium.modality == Modality.AUDIO
    assert medium.path == manifest.parent / item.path
