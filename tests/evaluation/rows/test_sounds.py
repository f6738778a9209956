"""Rows about sounds: right ones count, missing ones do not, and pitch is judged word by word."""

from __future__ import annotations

import random

import numpy as np
import pytest
from row_cases import answered
from tiny_media import Sines

from nextgpt.evaluation.requests import ExpectedMedium
from nextgpt.evaluation.results import Case
from nextgpt.evaluation.rows import sounds
from nextgpt.evaluation.rows.sounds import pitch_verdicts, waveform_of
from nextgpt.evaluation.runner import Evaluation
from nextgpt.media import Audio
from nextgpt.world.sounds import SoundScene
from nextgpt.world.synthesis import SAMPLE_RATE_HZ, perform


def played(scene: SoundScene) -> Audio:
    return Audio(perform(scene, random.Random(1), Sines(), {}), sample_rate_hz=SAMPLE_RATE_HZ)


def case(scene: SoundScene, medium: Audio | None) -> Case:
    words = (scene.register, scene.contour, scene.second)
    register, contour, second = words
    expected = ExpectedMedium("audio", scene.sound, None, None, register, contour, second)
    return answered(expected, medium)


LOW = SoundScene("flute", 2, register="low")
RISING = SoundScene("flute", 4, register="high", contour="rising")
FALLING = SoundScene("flute", 4, contour="falling")


def test_each_word_about_pitch_is_a_case(measured: Evaluation) -> None:
    cases = [case(scene, played(scene)) for scene in (LOW, RISING, FALLING)]
    pitches = sounds.pitches(cases)
    assert (pitches.hits, pitches.count) == (4, 4)


def test_further_wishes_are_for_a_certain_pitch(measured: Evaluation) -> None:
    found = measured.further(("sound",), 20, "pitches", sounds._is_pitched)
    assert len(found) == measured.limit
    wishes = [wish for request in found for wish in request.expected]
    assert all(wish.register or wish.contour for wish in wishes)


def test_the_opposite_pitch_is_wrong(measured: Evaluation) -> None:
    cases = [case(LOW, played(RISING)), case(FALLING, played(RISING))]
    pitches = sounds.pitches(cases)
    assert (pitches.hits, pitches.count) == (0, 2)


def test_a_missing_sound_is_wrong_for_instrument_and_pitch(measured: Evaluation) -> None:
    cases = [case(RISING, None)]
    instruments, pitches = sounds.instruments(measured, cases), sounds.pitches(cases)
    assert (instruments.hits, instruments.count) == (0, 1)
    assert (pitches.hits, pitches.count) == (0, 2)


def test_sounds_that_no_judge_knows_are_not_judged(measured: Evaluation) -> None:
    two = SoundScene("flute", second="harp")
    medium = played(LOW)
    cases = [case(two, medium), case(SoundScene("dog"), medium)]
    instruments = sounds.instruments(measured, cases)
    assert instruments.count == sounds.pitches(cases).count == 0
    assert "of sounds that no judge knows" in instruments.note


def test_a_sound_is_right_when_the_judge_hears_the_instrument(measured: Evaluation) -> None:
    medium = played(LOW)
    heard = measured.material.sound_judge.instruments_in([waveform_of(medium)])[0]
    scenes = [SoundScene(name, 2) for name in (heard, "harp" if heard != "harp" else "tuba")]
    instruments = sounds.instruments(measured, [case(scene, medium) for scene in scenes])
    assert (instruments.hits, instruments.count) == (1, 2)
    assert "similarity" in instruments.note


def test_a_judge_is_held_against_sounds_that_fit_the_wish(measured: Evaluation) -> None:
    [item, *_] = sounds._alone(measured, "train", "validation", "held_out_combination")
    pitch = {key: item.attributes[key] for key in ("register", "contour")}
    fitting = ExpectedMedium("audio", item.concept, **pitch)
    unheard = ExpectedMedium("audio", "dog")
    assert sounds.known(measured, [fitting] * 3 + [unheard]) in {f"{n} of 3" for n in range(4)}
    instruments = sounds.instruments(measured, [answered(fitting, None)])
    assert "of 1 of the world's own sounds" in instruments.note


def test_a_case_says_which_pitch_was_heard_and_how_sure_the_judge_is(measured: Evaluation) -> None:
    cases = [case(LOW, played(RISING)), case(LOW, None)]
    instruments, pitches = sounds.instruments(measured, cases), sounds.pitches(cases)
    assert [(sample.wanted, sample.seen) for sample in pitches.samples] == [
        ("low", "high"),
        ("low", "nothing"),
    ]
    heard, missing = instruments.samples
    assert 0 < (heard.share or 0) < 1
    assert (missing.share, missing.seen, missing.nearest) == (0, "nothing", None)


def test_judge_and_tracker_are_measured_on_recordings(measured: Evaluation) -> None:
    row = sounds.judged_recordings(measured)
    assert row.count == measured.limit
    assert "from FluidR3" in row.note
    assert "from freepats" in row.note
    assert "words about pitch" in row.note


def test_captions_of_a_random_chain_name_no_instrument(measured: Evaluation) -> None:
    row = sounds.captions(measured)
    assert (row.hits, row.count) == (0, measured.limit)


@pytest.mark.parametrize("waveform", [None, np.zeros(40_960, np.float32)])
def test_silence_has_no_pitch_that_could_be_right(waveform: np.ndarray | None) -> None:
    verdicts = pitch_verdicts("flute", "low", "rising", waveform)
    assert [verdict.wanted for verdict in verdicts] == ["low", "rising"]
    assert not any(verdict.is_right for verdict in verdicts)
    assert pitch_verdicts("flute", None, None, waveform) == []
