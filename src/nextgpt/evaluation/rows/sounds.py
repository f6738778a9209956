"""Rows about sounds: those generated, and what is said about held-out recordings."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nextgpt.data.conversations import medium_of
from nextgpt.evaluation.metrics import instruments_named
from nextgpt.evaluation.pitch import contour_of, register_of, track_pitch
from nextgpt.evaluation.results import NOTHING, Row, Sample, judged, judged_case, nearness
from nextgpt.media import Audio, Medium
from nextgpt.modality import Modality
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS
from nextgpt.world.synthesis import DURATION_S, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from nextgpt.data.manifest import Item
    from nextgpt.evaluation.requests import ExpectedMedium, Request
    from nextgpt.evaluation.results import Case
    from nextgpt.evaluation.runner import Evaluation

NUM_WISHES = 120
"""Wishes for one sound, beside the requests."""
NUM_PITCHED = 60
"""Wishes for one sound with a word about pitch, beside all these."""
NUM_CAPTIONS = 160
NUM_JUDGED = 400


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """All rows about sounds that the model makes or listens to."""
    if Modality.AUDIO in evaluation.made:
        cases = evaluation.asked(Modality.AUDIO, "sound", NUM_WISHES)
        yield instruments(evaluation, cases)
        more = evaluation.further(("sound",), NUM_PITCHED, "pitches", _is_pitched)
        yield pitches([*cases, *evaluation.cases("pitches", more, Modality.AUDIO)])
        yield judged_recordings(evaluation)
    if Modality.AUDIO in evaluation.read:
        yield captions(evaluation)


def instruments(evaluation: Evaluation, cases: Sequence[Case]) -> Row:
    """Whether generated sounds are of the requested instrument."""
    samples = []
    neighbours = evaluation.neighbours(Modality.AUDIO, cases)
    for case, nearest in zip(cases, neighbours, strict=True):
        if _is_judged(case):
            shares = None
            if case.medium is not None:
                heard = waveform_of(case.medium)
                [shares] = evaluation.material.sound_judge.shares_in([heard])
            samples.append(judged_case(case, shares, nearest))
    wishes = [case.expected for case in cases if _is_judged(case)]
    others = [n for n, case in zip(neighbours, cases, strict=True) if not _is_judged(case)]
    return Row.proportion(
        "generated sound is of the requested instrument",
        samples,
        0.85,
        note=f"says the judge of sounds, who names {known(evaluation, wishes)} of the world's own "
        f"sounds like them; a missing sound counts as wrong; {nearness(neighbours)}, "
        f"{nearness(others)} of sounds that no judge knows",
    )


def pitches(cases: Sequence[Case]) -> Row:
    """Whether the pitch of generated sounds is as requested."""
    samples = []
    for case in cases:
        wish = case.expected
        heard = None if case.medium is None else waveform_of(case.medium)
        samples += [
            Sample(verdict.wanted, verdict.heard, verdict.is_right, case.asked, case.reply)
            for verdict in pitch_verdicts(wish.concept, wish.register, wish.contour, heard)
        ]
    return Row.proportion(
        "generated notes are low, high, rising or falling as requested",
        samples,
        0.85,
        note="by pitch tracking",
    )


def _is_pitched(request: Request) -> bool:
    """Whether a word about pitch is among what is asked for."""
    [wish] = request.expected
    return wish.register is not None or wish.contour is not None


def _is_judged(case: Case) -> bool:
    """Whether the judge knows the one instrument that was asked for."""
    return case.expected.concept in INSTRUMENTS and case.expected.second is None


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
    seen = evaluation.material.sound_judge.instruments_in(waveforms)
    return f"{sum(map(str.__eq__, seen, names))} of {len(names)}"


@dataclass(frozen=True)
class PitchVerdict:
    """Whether one word about pitch is true of a sound."""

    wanted: str
    heard: str
    """The tracker's word for the same; "neither" where it has none."""

    @property
    def is_right(self) -> bool:
        """Whether the words are the same."""
        return self.wanted == self.heard


def pitch_verdicts(
    sound: str, register: str | None, contour: str | None, waveform: np.ndarray | None
) -> list[PitchVerdict]:
    """Judge the words about pitch that are not None, one verdict each; no sound is wrong."""
    wanted = (register, contour)
    heard: tuple[str | None, str | None] = (NOTHING, NOTHING)
    if waveform is not None and any(wanted):
        track = track_pitch(waveform)
        heard = (register_of(track, SOUNDS[sound].centre), contour_of(track))
    pairs = zip(wanted, heard, strict=True)
    return [PitchVerdict(word, other or "neither") for word, other in pairs if word]


def waveform_of(medium: Medium) -> np.ndarray:
    """Return a sound's start as judges hear it, (DURATION_S * SAMPLE_RATE_HZ,) float32."""
    assert isinstance(medium, Audio), f"{medium.modality} is no sound"
    return medium.windows(1, DURATION_S, SAMPLE_RATE_HZ)[0]


def judged_recordings(evaluation: Evaluation) -> Row:
    """How often judge and pitch tracker are right on recordings that neither has heard."""
    items = evaluation.some(_alone(evaluation, "validation", "held_out_recording"), NUM_JUDGED)
    recordings = [medium_of(item, evaluation.manifest) for item in items]
    waveforms = [waveform_of(recording) for recording in recordings]
    verdicts = evaluation.material.sound_judge.shares_in(waveforms)
    samples = [
        judged(item.concept, shares, recording)
        for item, shares, recording in zip(items, verdicts, recordings, strict=True)
    ]
    pitches = [
        verdict.is_right
        for item, waveform in zip(items, waveforms, strict=True)
        for verdict in pitch_verdicts(
            item.concept, item.attributes["register"], item.attributes["contour"], waveform
        )
    ]
    counts = []
    for split, origin in (("validation", "FluidR3"), ("held_out_recording", "freepats")):
        pairs = zip(samples, items, strict=True)
        of_split = [sample.is_right for sample, item in pairs if item.split == split]
        counts.append(f"{sum(of_split)} of {len(of_split)} from {origin}")
    counts.append(f"{sum(pitches)} of {len(pitches)} words about pitch by the tracker")
    return Row.proportion(
        "the judge of sounds itself, on recordings it has not heard",
        samples,
        0.85,
        note=", ".join(counts),
    )


def captions(evaluation: Evaluation) -> Row:
    """Whether the answer names the instrument of a held-out recording, and no other."""
    items = evaluation.some(_alone(evaluation, "held_out_recording"), NUM_CAPTIONS)
    sections = ("listen_source", "listen_all")
    samples = evaluation.answered("sound_captions", items, sections, _instrument_read)
    return Row.proportion("caption of a held-out recording names the instrument", samples, 0.70)


def _instrument_read(text: str, item: Item) -> Sample:
    named = instruments_named(text)
    return Sample(item.concept, ", ".join(sorted(named)) or NOTHING, named == {item.concept})


def _alone(evaluation: Evaluation, *splits: str) -> list[Item]:
    """List the recordings of one instrument."""
    return [
        item
        for item in evaluation.items_of(Modality.AUDIO, *splits)
        if item.concept in INSTRUMENTS and item.attributes["second"] is None
    ]
