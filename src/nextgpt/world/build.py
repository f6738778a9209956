"""Building the micro world: a fixed plan of pictures, drawn by two processes, then a manifest."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import ImageOps
from tqdm import tqdm

from nextgpt.data.manifest import Item, write_manifest
from nextgpt.sources import cache_dir
from nextgpt.world.concepts import ARTISTS, CONCEPTS, Drawing, Party, View, drawings
from nextgpt.world.pictures import Sprite, compose, difference_hash, render_drawings
from nextgpt.world.scenes import Scene, describe, held_out_pairs, sample_scene
from nextgpt.world.sources import ICON_SOURCES, open_icon_sets

log = logging.getLogger(__name__)

WORLD_VERSION = 1
"""Part of every picture's name; raise it when pictures are composed differently."""

NUM_PROCESSES = 2
COMPOSITIONS_PER_TEST_DRAWING = 6
EXTRA_SHARE = 0.125
"""Faces and variants added to the training pictures, as a share of them."""
NEAR_IDENTICAL_BITS = 24
"""Hash bits of 256 up to which two drawings count as one. Measured: drawings of one concept by two
artists differ in 25 bits and more, save four plain outlines (stars, keys, a saxophone)."""
MIN_PICTURES_FOR_A_POOL = 256
"""Below this, starting processes costs more than it saves."""


@dataclass(frozen=True)
class _Picture:
    """One picture still to be drawn, and its manifest line."""

    item: Item
    scene: Scene
    drawing: str
    seed: str


def build_world(
    out: Path | None = None,
    num_train: int = 16000,
    archives: Path | None = None,
    seed: int = 0,
    num_validation: int = 600,
    num_held_out_pair: int = 400,
) -> Path:
    """Build the pictures of the micro world; pictures already there are kept.

    The plan hangs on the arguments alone, so an interrupted build that is started again ends like
    one that ran through.

    Args:
        out: folder to build in; None is ``world`` in the user's cache.
        num_train: whole-drawing training pictures; faces and variants come on top.
        archives: folder of packages fetched by hand, looked at before the registries.
        seed: another seed gives other compositions of the same drawings.
        num_validation: pictures of the training drawings in other compositions.
        num_held_out_pair: pictures of concepts on backgrounds they are never trained on.

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
    plan = [
        *_plan("train", whole, num_train, seed),
        *_plan("train", extra, round(num_train * EXTRA_SHARE), seed, name="train-extra"),
        *_plan("validation", whole, num_validation, seed),
        *_plan("held_out_pair", whole, num_held_out_pair, seed, pairs=held_out_pairs()),
        *_plan("held_out_drawing", kept, len(kept) * COMPOSITIONS_PER_TEST_DRAWING, seed),
    ]
    return _draw(out, "manifest.jsonl", plan, {**sprites, **test_sprites})


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


def _plan(
    split: str,
    allowed: Sequence[Drawing],
    num_pictures: int,
    seed: int,
    name: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Iterator[_Picture]:
    """Lay out a split: concepts (or pairs) in turn, each picture from a seed of its own.

    Args:
        split: name in the manifest.
        allowed: drawings that may be used.
        num_pictures: how many pictures.
        seed: of the whole world.
        name: first part of the pictures' ids; the split's by default.
        pairs: the (concept, background) pairs to show; None shows trained backgrounds.
    """
    name = name or split
    by_concept = defaultdict(list)
    for drawing in allowed:
        by_concept[drawing.concept].append(drawing)
    concepts = [concept for concept in CONCEPTS if concept in by_concept]
    for index in range(num_pictures):
        picture_seed = f"{WORLD_VERSION}/{seed}/{name}/{index}"
        rng = random.Random(picture_seed)
        background: str | None = None
        if split == "held_out_drawing":
            drawing = allowed[index // COMPOSITIONS_PER_TEST_DRAWING]
        elif pairs is not None:
            concept, background = pairs[index % len(pairs)]
            drawing = rng.choice(by_concept[concept])
        else:
            drawing = rng.choice(by_concept[concepts[index % len(concepts)]])
        scene = sample_scene(rng, drawing.concept, background, single=drawing.view != "whole")
        scene = _in_the_drawings_style(scene, drawing)
        yield _picture(f"{name}-{index:05d}", split, drawing, scene, picture_seed)


def _in_the_drawings_style(scene: Scene, drawing: Drawing) -> Scene:
    """Let a caption that names a style name the drawing's own, if it has one."""
    style = ARTISTS[drawing.artist].style if scene.style else None
    return Scene(**{**asdict(scene), "style": style})


def _picture(id_: str, split: str, drawing: Drawing, scene: Scene, seed: str) -> _Picture:
    # The name changes with what is shown, so that a file is never taken for another picture.
    recipe = json.dumps([asdict(scene), drawing.key, seed])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    view: View = drawing.view
    source = ICON_SOURCES[drawing.artist]
    attributes = {
        "background": scene.background,
        "size": scene.size,
        "place": scene.place,
        "count": scene.count,
        "style": scene.style,
        "drawing": drawing.key,
        "view": view,
    }
    item = Item(
        id=id_,
        modality="image",
        path=f"pictures/{id_}-{digest}.png",
        caption=describe(scene, view),
        concept=scene.concept,
        attributes=attributes,
        source=source.name,
        licence=source.licence,
        split=split,
    )
    return _Picture(item, scene, drawing.key, seed)


def _draw(
    out: Path | None, manifest: str, plan: Iterable[_Picture], sprites: dict[str, Sprite]
) -> Path:
    """Draw what is missing of a plan, then write its manifest."""
    out = out or cache_dir() / "world"
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    plan = list(plan)
    missing = [picture for picture in plan if not (out / picture.item.path).exists()]
    log.info("%d pictures planned, %d to draw, in %s", len(plan), len(missing), out)
    if len(missing) < MIN_PICTURES_FOR_A_POOL:
        _start_worker(sprites, out)
        for picture in missing:
            _draw_one(picture)
    else:
        with ProcessPoolExecutor(
            NUM_PROCESSES,
            # A forked child of a process that has used threads (torch) may hang.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(sprites, out),
        ) as pool:
            drawn = pool.map(_draw_one, missing, chunksize=64)
            for _ in tqdm(drawn, desc="pictures", total=len(missing)):
                pass
    write_manifest(out / manifest, [picture.item for picture in plan])
    return out / manifest


_worker: tuple[dict[str, Sprite], Path]


def _start_worker(sprites: dict[str, Sprite], out: Path) -> None:
    global _worker
    _worker = sprites, out


def _draw_one(picture: _Picture) -> None:
    sprites, out = _worker
    rng = random.Random(f"{picture.seed}/composed")
    drawn = compose(sprites[picture.drawing], picture.scene, rng)
    path = out / picture.item.path
    temporary = path.with_suffix(".tmp")
    drawn.save(temporary, format="PNG")
    temporary.replace(path)
