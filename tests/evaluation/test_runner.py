"""A measurement chooses its cases once, goes on where it was and leaves out what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_chain import tiny_chain_config

from nextgpt import configuration
from nextgpt.evaluation.material import Material
from nextgpt.evaluation.rows import clips, pictures, replies, sounds
from nextgpt.evaluation.runner import Evaluation
from nextgpt.generation import NextGPT
from nextgpt.modality import Modality

if TYPE_CHECKING:
    from conftest import TinyParts


def test_a_random_chain_fails_what_it_must(measured: Evaluation) -> None:
    found = {row.metric: row for row in replies.rows(measured)}
    assert len(found) == 5
    assert {row.count for row in found.values()} == {measured.limit}
    assert not found["reply holds exactly the requested media"].passed
    assert not found["reply holds exactly the requested media, one to three"].passed


def test_whether_replies_hold_the_requested_media_is_told_without_rendering(
    assistant: NextGPT, manifest: Path, material: Material, tmp_path: Path
) -> None:
    list(replies.rows(Evaluation(assistant, manifest, material, tmp_path, 3)))
    suffixes = {path.suffix for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".npy"}


def test_a_second_measurement_takes_the_replies_of_the_first(
    assistant: NextGPT, manifest: Path, material: Material, tmp_path: Path
) -> None:
    first = Evaluation(assistant, manifest, material, tmp_path, 3)
    rows = list(replies.rows(first))
    raw = tmp_path / "raw" / "requests-written.jsonl"
    time = raw.stat().st_mtime_ns
    second = Evaluation(assistant, manifest, material, tmp_path, 3)
    assert list(replies.rows(second)) == rows
    assert raw.stat().st_mtime_ns == time
    assert second.facts() == first.facts()


def test_a_smaller_limit_measures_a_part_of_the_same_cases(measured: Evaluation) -> None:
    cases = list(range(100))
    assert measured.some(cases, 3) == measured.some(cases, 5)[:3]


def test_wishes_add_cases_to_those_of_the_requests(measured: Evaluation) -> None:
    asked = measured.asked(Modality.AUDIO)
    with_wishes = measured.asked(Modality.AUDIO, "sound", 3)
    assert [case.expected for case in with_wishes[: len(asked)]] == [c.expected for c in asked]
    assert len(with_wishes) == len(asked) + 3
    assert {case.expected.modality for case in with_wishes} == {"audio"}


@pytest.fixture(scope="module")
def painter(tiny: TinyParts) -> NextGPT:
    """A chain that answers in pictures alone."""
    config = tiny_chain_config(tiny)
    for part in ("decoders", "num_signal_tokens"):
        config[part] = {"image": config[part]["image"]}
    return NextGPT(configuration.build(config))


def test_a_chain_without_sounds_and_clips_is_measured_on_the_rest(
    painter: NextGPT, manifest: Path, material: Material, tmp_path: Path
) -> None:
    evaluation = Evaluation(painter, manifest, material, tmp_path, 2)
    wanted = {m.modality for request in evaluation.requests for m in request.expected}
    assert wanted <= {"image"}
    assert len(list(replies.rows(evaluation))) == 5
    for rows in (sounds, clips):
        assert all("caption" in row.metric for row in rows.rows(evaluation))
    assert [row.metric for row in replies.seconds(evaluation)] == [
        "seconds for a reply with one picture"
    ]
    generated = pictures.generated(evaluation, evaluation.asked(Modality.IMAGE))
    assert len(list(generated)) == 2


def test_timed_replies_take_time(measured: Evaluation) -> None:
    alone, every = replies.seconds(measured)
    assert 0 < alone.value < float("inf") and 0 < every.value < float("inf")
