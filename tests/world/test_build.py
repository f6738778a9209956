"""Building the world: the splits hold what they say, and an interrupted build ends the same."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_icons import pattern
from tiny_media import Sines, write_loops

from nextgpt.data.manifest import Item, read_manifest
from nextgpt.media import Audio, Video
from nextgpt.sources import SourceError
from nextgpt.world import build, commands
from nextgpt.world.build import build_world, judge_drawings, near_identical
from nextgpt.world.concepts import STYLES, drawings
from nextgpt.world.motions import LOOPS, MotionScene, describe_motion
from nextgpt.world.pictures import ROWS, render
from nextgpt.world.plans import Assets, plan_couples, plan_pictures, plan_sounds
from nextgpt.world.scenes import Scene, describe, held_out_pairs, is_held_out_pair
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS, SoundScene, describe_sound, is_held_out_sound
from nextgpt.world.sources import MEDIA_SOURCES

COUNTS = {
    "num_train": 80,
    "num_validation": 40,
    "num_held_out_pair": 20,
    "num_sounds": 0,
    "num_clips": 0,
}


@pytest.fixture(scope="module")
def world(pinned_archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of a few hundred pictures, drawn by two processes; not to be written to."""
    folder = tmp_path_factory.mktemp("built") / "world"
    build_world(folder, archives=pinned_archives, **COUNTS)
    return folder


def fingerprint(world: Path) -> dict[str, str]:
    """Hash every file of a world."""
    return {
        str(path.relative_to(world)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in world.rglob("*")
        if path.is_file()
    }


def scene_of(item: Item) -> Scene:
    """Read the scene back from a manifest line."""
    names = ("background", "size", "place", "count", "style", "second")
    return Scene(item.concept, **{name: item.attributes[name] for name in names})


def test_a_world_is_what_its_manifest_says(world: Path) -> None:
    items = read_manifest(world / "manifest.jsonl")
    num_test = len(drawings("test"))
    assert Counter(item.split for item in items) == {
        "train": 80 + 10 + 40,
        "validation": 40,
        "held_out_pair": 20 + 20,
        "held_out_drawing": 6 * num_test,
    }
    assert len({item.id for item in items}) == len(items)
    artists = {drawing.key: drawing for party in ("model", "test") for drawing in drawings(party)}
    for item in items:
        drawing, *others = (artists[key] for key in item.attributes["drawing"].split(" and "))
        assert (world / item.path).is_file()
        assert item.concept == drawing.concept
        assert item.caption == describe(scene_of(item), drawing.view)
        assert item.attributes["style"] in (None, *STYLES)
        if item.attributes["style"]:
            assert STYLES[item.attributes["style"]] == drawing.artist
        second = item.attributes["second"]
        assert [other.concept for other in others] == ([second] if second else [])
        assert {other.artist for other in others} <= {drawing.artist}
        held_out = is_held_out_pair(item.concept, second or item.attributes["background"])
        assert held_out == (item.split == "held_out_pair")
        assert (drawing.artist == "fxemoji") == (item.split == "held_out_drawing")
        assert f"@iconify-json/{drawing.artist}@" in item.source
        assert item.licence
    views = Counter(item.attributes["view"] for item in items if item.split == "train")
    assert views["whole"] == 80 + 40
    assert all(
        i.attributes["count"] == 1 for i in items if i.attributes["view"] in ("face", "other")
    )


def test_an_interrupted_build_ends_like_one_that_ran_through(
    tmp_path: Path, world: Path, pinned_archives: Path
) -> None:
    interrupted = Path(shutil.copytree(world, tmp_path / "interrupted"))
    pictures = sorted((interrupted / "pictures").iterdir())
    for picture in pictures[::10]:
        picture.unlink()
    (interrupted / "manifest.jsonl").unlink()
    written_ns = pictures[1].stat().st_mtime_ns
    build_world(interrupted, archives=pinned_archives, **COUNTS)
    assert fingerprint(interrupted) == fingerprint(world)
    assert pictures[1].stat().st_mtime_ns == written_ns


def test_another_seed_gives_other_pictures_of_the_same_names() -> None:
    allowed = drawings("model")
    first, second = (list(plan_pictures("train", allowed, 200, seed)) for seed in (0, 1))
    assert [picture.item.id for picture in first] == [picture.item.id for picture in second]
    assert not {p.item.path for p in first} & {p.item.path for p in second}


def test_rows_that_stand_otherwise_are_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> dict[bool, set[str]]:
        found: dict[bool, set[str]] = {True: set(), False: set()}
        whole = [drawing for drawing in drawings("model") if drawing.view == "whole"]
        for picture in [
            *plan_pictures("train", whole, 200, 0),
            *plan_couples("train", whole, 20, 0),
        ]:
            is_row = picture.scene.count > 1 or picture.scene.second is not None
            found[is_row].add(picture.item.path)
        return found

    before = names()
    monkeypatch.setattr(
        "nextgpt.world.plans.ROWS", {count: (0.4, middles) for count, (_, middles) in ROWS.items()}
    )
    after = names()
    assert before[False] == after[False]
    assert not before[True] & after[True]


def test_a_drawing_that_repeats_another_partys_is_found_mirrored_too() -> None:
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 6 6" width="256" height="256">'
    one, two = (render(f"{head}{pattern(name)}</svg>") for name in ("one", "two"))
    mirrored = render(f'{head}<g transform="translate(6 0) scale(-1 1)">{pattern("one")}</g></svg>')
    assert near_identical({"test/one": one, "test/two": two}, {"model/one": mirrored}) == {
        "test/one": ("model/one", 0)
    }


def test_near_identical_test_drawings_are_left_out(
    tmp_path: Path, pinned_archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "near_identical", lambda *_: {"fxemoji/dogside": ("noto/dog", 3)})
    monkeypatch.setattr(build, "MIN_MEDIA_FOR_A_POOL", 10_000)
    items = read_manifest(build_world(tmp_path, archives=pinned_archives, **COUNTS))
    used = {i.attributes["drawing"] for i in items if i.split == "held_out_drawing"}
    assert used == {d.key for d in drawings("test")} - {"fxemoji/dogside"}


def test_the_judges_drawings_are_its_own_artists(pinned_archives: Path) -> None:
    used = {drawing.key for drawing, svg in judge_drawings(pinned_archives) if "<svg" in svg}
    assert used
    assert used <= {drawing.key for drawing in drawings("judge")}


def test_the_commands_build_and_count(
    tmp_path: Path,
    world: Path,
    pinned_archives: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Path(shutil.copytree(world, tmp_path / "world"))
    small = functools.partial(build_world, num_validation=40, num_held_out_pair=20)
    monkeypatch.setattr(commands, "build_world", small)
    commands.build(out=copy, archives=pinned_archives, num_train=80, num_sounds=0, num_clips=0)
    assert "130 image train, 40 image validation, 40 image held_out_pair" in capsys.readouterr().out
    commands.stats(world=copy)
    printed = capsys.readouterr().out
    for word in ("concept", "background", "licence", "rainbow", "CC-BY-4.0", "130"):
        assert word in printed


def test_an_archive_with_another_hash_stops_the_build_before_anything_is_written(
    tmp_path: Path, pinned_archives: Path
) -> None:
    shutil.copytree(pinned_archives, tmp_path / "archives")
    (tmp_path / "archives" / "iconify-json-noto-1.2.9.tgz").write_bytes(b"another file")
    with pytest.raises(SourceError, match="iconify-json-noto-1.2.9.tgz has sha256"):
        build_world(tmp_path / "world", archives=tmp_path / "archives", num_train=1)
    assert not (tmp_path / "world").exists()


def test_a_world_without_training_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_train is 0"):
        build_world(tmp_path, num_train=0)


def test_clips_are_built_beside_pictures_loops_among_them(
    tmp_path: Path, pinned_archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(pinned_archives, tmp_path / "archives"))
    for name in ("1", "4"):
        package = f"@lobehub/fluent-emoji-anim-{name}"
        archive = folder / f"lobehub-fluent-emoji-anim-{name}-1.0.0.tgz"
        write_loops(archive, [x.code_point for loops in LOOPS.values() for x in loops.values()])
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        pinned = dataclasses.replace(MEDIA_SOURCES[package], sha256=digest)
        monkeypatch.setitem(MEDIA_SOURCES, package, pinned)
    monkeypatch.setattr(build, "CLIPS_PER_TEST_DRAWING", 1)
    counts = {**COUNTS, "num_train": 1, "num_validation": 1, "num_held_out_pair": 1}
    built = build_world(tmp_path / "world", archives=folder, **{**counts, "num_clips": 50})
    clips = [item for item in read_manifest(built) if item.modality == "video"]
    splits = Counter(item.split for item in clips)
    assert splits["train"] == 50 + 6 and splits["held_out_loop"] == 120
    pairs = set(held_out_pairs())
    for item in clips[::20]:
        scene = MotionScene(item.concept, *(item.attributes[n] for n in ("background", "motion")))
        assert item.caption.startswith(describe_motion(scene))
        held_out = (item.concept, item.attributes["background"]) in pairs
        assert held_out == (item.split == "held_out_pair")
        video = Video(built.parent / item.path)
        assert (video.num_frames, video.frames_per_second) == (8, 4.0)
    loops = [item for item in clips if item.attributes["motion"] in LOOPS]
    drawings = {
        split: {item.attributes["drawing"] for item in loops if item.split == split}
        for split in ("train", "held_out_loop")
    }
    assert {item.split for item in loops} == set(drawings)
    assert len(drawings["held_out_loop"]) == 10
    assert not drawings["train"] & drawings["held_out_loop"]


def test_sounds_are_built_and_no_held_out_combination_is_trained_on(tmp_path: Path) -> None:
    font = MEDIA_SOURCES["fluid-soundfont-gm"]
    recording = np.ones(1000, np.float32)
    recordings = {name: recording for name in SOUNDS if SOUNDS[name].kind == "animal"}
    assets = Assets({}, {}, {font.package: Sines()}, recordings)
    plan = [
        *plan_sounds("train", 120, 0, font),
        *plan_sounds("held_out_combination", 20, 0, font),
        *plan_sounds("held_out_recording", 20, 0, font, INSTRUMENTS),
    ]
    manifest = build._make(tmp_path, "manifest.jsonl", plan, assets)
    for item in read_manifest(manifest):
        fields = ("count", "register", "contour", "speed", "second")
        scene = SoundScene(item.concept, **{name: item.attributes[name] for name in fields})
        assert item.caption == describe_sound(scene)
        held_out = item.split == "held_out_combination"
        assert is_held_out_sound(scene) == held_out
        if item.split == "held_out_recording":
            assert scene.second is None and item.concept in INSTRUMENTS
        sound = Audio(manifest.parent / item.path)
        assert (sound.sample_rate_hz, sound.num_channels) == (16_000, 1)
        assert sound.duration_s == pytest.approx(2.56)
    licences = {item.licence for item in read_manifest(manifest)}
    assert licences == {"MIT", "CC0-1.0"}
