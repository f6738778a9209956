"""Rows about sounds: those generated, and what is said about held-out recordings."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nextgpt.data.conversations import medium_of
from nextgpt.evaluation.metrics import Row, instruments_named
from nextgpt.evaluation.pitch import contour_of, register_of, track_pitch
from nextgpt.evaluation.report import Sample, spectrogram
from nextgpt.media import Audio, Medium
from nextgpt.modality import Modality
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS
from nextgpt.world.synthesis import DURATION_S, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from nextgpt.data.manifest import Item
    from nextgpt.evaluation.requests import ExpectedMedium
    from nextgpt.evaluation.runner import Case, Evaluation

NUM_WISHES = 120
"""Wishes for one sound, beside the requests."""
NUM_CAPTIONS = 160
NUM_JUDGED = 400


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """All rows about sounds that the model makes or listens to."""
    if Modality.AUDIO in evaluation.made:
        cases = evaluation.asked(Modality.AUDIO, "sound", NUM_WISHES)
        yield from generated(evaluation, cases)
        yield judged_recordings(evaluation)
    if Modality.AUDIO in evaluation.read:
        yield captions(evaluation)


def generated(evaluation: Evaluation, cases: Sequence[Case]) -> Iterator[Row]:
    """Whether generated sounds are of the requested instrument, and their pitch as requested."""
    instruments, judged, pitches, others = [], [], [], []
    for case in cases:
        expected, seen, waveform = case.expected, "nothing", None
        if case.medium is not None:
            waveform = waveform_of(case.medium)
            seen = evaluation.sound_judge.instruments_in([waveform])[0]
        verdicts = pitch_verdicts(expected.concept, expected.register, expected.contour, waveform)
        pitches += verdicts
        has_judge = expected.concept in INSTRUMENTS and expected.second is None
        if has_judge:
            instruments.append(seen == expected.concept)
            judged.append(expected)
        else:
            others.append(case)
        if waveform is not None:
            words = (expected.concept, expected.second, expected.register, expected.contour)
            asked = ", ".join(word for word in words if word)
            seen = seen if has_judge else "?"
            if not all(verdicts):
                seen = f"{seen}, other pitch"
            right = seen in (expected.concept, "?")
            sample = Sample(spectrogram(waveform), asked, seen, case.text, right)
            evaluation.samples["sounds"].append(sample)
    yield Row.proportion(
        "generated sound is of the requested instrument",
        instruments,
        0.60,
        note=f"says the judge of sounds, who names {known(evaluation, judged)} of the world's own "
        "sounds like them; a missing sound counts as wrong; "
        f"{evaluation.nearness(Modality.AUDIO, cases)}, "
        f"{evaluation.nearness(Modality.AUDIO, others)} of sounds that no judge knows",
    )
    yield Row.proportion(
        "generated notes are low, high, rising or falling as requested",
        pitches,
        0.75,
        note="by pitch tracking",
    )


def known(evaluation: Evaluation, wishes: Sequence[ExpectedMedium]) -> str:
    """Count the wishes whose instrument the judge names in a sound of the world that fits them.

    A model whose sounds were the world's own would score about that.
    """
    sounds = _alone(evaluation, "train", "validation", "held_out_combination")
    rng = random.Random(evaluation.seed)
    names, waveforms = [], []
    for wish in wishes:
        fitting = [
            item
            for item in sounds
            if item.concept == wish.concept
            and (item.attributes["register"], item.attributes["contour"])
            == (wish.register, wish.contour)
        ]
        if fitting:
            names.append(wish.concept)
            waveforms.append(waveform_of(medium_of(rng.choice(fitting), evaluation.manifest)))
    seen = evaluation.sound_judge.instruments_in(waveforms)
    return f"{sum(map(str.__eq__, seen, names))} of {len(names)}"


def pitch_verdicts(
    sound: str, register: str | None, contour: str | None, waveform: np.ndarray | None
) -> list[bool]:
    """Judge the words about pitch that are not None, one verdict each; no sound is wrong."""
    asked = [word for word in (register, contour) if word]
    if waveform is None or not asked:
        return [False for _ in asked]
    track = track_pitch(waveform)
    heard = (register_of(track, SOUNDS[sound].centre), contour_of(track))
    return [word in heard for word in asked]


def waveform_of(medium: Medium) -> np.ndarray:
    """Return a sound's start as judges hear it, (DURATION_S * SAMPLE_RATE_HZ,) float32."""
    assert isinstance(medium, Audio), f"{medium.modality} is no sound"
    return medium.windows(1, DURATION_S, SAMPLE_RATE_HZ)[0]


def judged_recordings(evaluation: Evaluation) -> Row:
    """How often judge and pitch tracker are right on recordings that neither has heard."""
    items = evaluation.some(_alone(evaluation, "validation", "held_out_recording"), NUM_JUDGED)
    waveforms = [waveform_of(medium_of(item, evaluation.manifest)) for item in items]
    seen = evaluation.sound_judge.instruments_in(waveforms)
    verdicts = [name == item.concept for name, item in zip(seen, items, strict=True)]
    counts = []
    for split, origin in (("validation", "FluidR3"), ("held_out_recording", "freepats")):
        of_split = [v for v, item in zip(verdicts, items, strict=True) if item.split == split]
        counts.append(f"{sum(of_split)} of {len(of_split)} from {origin}")
    pitches = [
        verdict
        for item, waveform in zip(items, waveforms, strict=True)
        for verdict in pitch_verdicts(
            item.concept, item.attributes["register"], item.attributes["contour"], waveform
        )
    ]
    counts.append(f"{sum(pitches)} of {len(pitches)} words about pitch by the tracker")
    return Row.proportion(
        "the judge of sounds itself, on recordings it has not heard",
        verdicts,
        0.85,
        note=", ".join(counts),
    )


def captions(evaluation: Evaluation) -> Row:
    """Whether the answer names the instrument of a held-out recording, and no other."""
    items = evaluation.some(_alone(evaluation, "held_out_recording"), NUM_CAPTIONS)
    texts = evaluation.answered("sound_captions", items, ("listen_source", "listen_all"))
    verdicts = [instruments_named(texts[item.id]) == {item.concept} for item in items]
    return Row.proportion("caption of a held-out recording names the instrument", verdicts, 0.60)


def _alone(evaluation: Evaluation, *splits: str) -> list[Item]:
    """List the recordings of one instrument."""
    return [
        item
        for item in evaluation.items_of(Modality.AUDIO, *splits)
        if item.concept in INSTRUMENTS and item.attributes["second"] is None
    ]
