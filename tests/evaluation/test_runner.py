"""A measurement of a tiny random chain: every row is computed from real replies and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from tiny_chain import tiny_chain

from nextgpt.data.manifest import Item, write_manifest
from nextgpt.evaluation.judge import Judge, JudgeNetwork
from nextgpt.evaluation.runner import Evaluation
from nextgpt.generation import NextGPT
from nextgpt.world.concepts import CONCEPTS
from nextgpt.world.scenes import COLOURS, Scene, describe

if TYPE_CHECKING:
    from conftest import TinyParts

LIMIT = 6


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every concept once in each split, as a square whose place is the concept's own."""
    folder = tmp_path_factory.mktemp("world")
    items = []
    for number, concept in enumerate(CONCEPTS):
        for split in ("validation", "held_out_drawing"):
            background = list(COLOURS)[number % len(COLOURS)]
            picture = PIL.Image.new("RGB", (64, 64), COLOURS[background])
            PIL.ImageDraw.Draw(picture).rectangle([number, 8, number + 20, 40], (90, 60, 120))
            path = f"{concept}-{split}.png"
            picture.save(folder / path)
            scene = Scene(concept, background)
            attributes = {
                "background": background,
                "size": scene.size,
                "place": scene.place,
                "count": scene.count,
                "style": None,
                "drawing": f"nobody/{concept}",
                "view": "whole",
            }
            items.append(
                Item(path, "image", path, describe(scene), concept, attributes, "", "", split)
            )
    write_manifest(folder / "manifest.jsonl", items)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def judge() -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Judge(JudgeNetwork(image_size=32))


@pytest.fixture(scope="module")
def assistant(tiny: TinyParts) -> NextGPT:
    return NextGPT(tiny_chain(tiny))


def evaluation(assistant: NextGPT, manifest: Path, judge: Judge, out: Path) -> Evaluation:
    return Evaluation(assistant, manifest, judge, [], out, limit=LIMIT)


@pytest.fixture(scope="module")
def measured(
    assistant: NextGPT, manifest: Path, judge: Judge, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    return evaluation(assistant, manifest, judge, tmp_path_factory.mktemp("results"))


def test_no_row_has_more_cases_than_the_limit(measured: Evaluation) -> None:
    rows = [*measured.requests(), measured.judged_drawings(), measured.captions()]
    assert [row.count for row in (rows[0], rows[3], rows[4])] == [LIMIT] * 3
    assert measured.signals_against_text().count == LIMIT


def test_a_random_chain_fails_what_it_must(measured: Evaluation) -> None:
    exact, concept, background = measured.requests()
    assert not exact.passed
    assert not concept.passed
    assert concept.count >= background.count
    assert not measured.captions().passed
    assert measured.captions().hits == 0


def test_a_missing_picture_counts_as_wrong(
    measured: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured.answers, "get", lambda _, drafts: dict.fromkeys(drafts, silent()))
    _, concept, background = measured.requests()
    assert concept.count > 0
    assert concept.hits == background.hits == 0


def silent():  # noqa: ANN201
    from nextgpt.messages import Message

    return Message("assistant", ["I say nothing."])


def test_a_second_measurement_takes_the_replies_of_the_first(
    assistant: NextGPT, manifest: Path, judge: Judge, tmp_path: Path
) -> None:
    first = evaluation(assistant, manifest, judge, tmp_path)
    rows = first.requests()
    raw = tmp_path / "raw" / "requests.jsonl"
    times = raw.stat().st_mtime_ns
    second = evaluation(assistant, manifest, judge, tmp_path)
    assert second.requests() == rows
    assert raw.stat().st_mtime_ns == times
    assert second.facts() == first.facts()


def test_a_smaller_limit_measures_a_part_of_the_same_cases(measured: Evaluation) -> None:
    cases = list(range(100))
    small, large = measured._some(cases, 5), measured._some(cases, 50)
    assert small == large[: len(small)]


def test_the_timed_reply_takes_time(measured: Evaluation) -> None:
    row = measured.seconds()
    assert 0 < row.value < float("inf")
