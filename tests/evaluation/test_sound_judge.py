"""The judge of sounds practises on what hangs on an index alone, and learns from it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_media import Sines

from nextgpt.evaluation.judge import load_or_train
from nextgpt.evaluation.pitch import track_pitch
from nextgpt.evaluation.sound_judge import SoundJudge, SoundJudgeNetwork
from nextgpt.evaluation.sound_models import MODELS, modelled_note
from nextgpt.evaluation.sound_practice import (
    INSTRUMENT_OF,
    NUM_PROGRAMS,
    PracticeSounds,
    practice_sound,
    varied,
)
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS
from nextgpt.world.synthesis import NUM_SAMPLES, SAMPLE_RATE_HZ


def test_a_practice_sound_hangs_on_its_index_alone() -> None:
    first, second = (PracticeSounds(Sines(), 6) for _ in range(2))
    backwards = {index: second[index] for index in reversed(range(6))}
    for index in range(6):
        assert torch.equal(first[index][0], backwards[index][0])
        assert first[index][1] == backwards[index][1]
    assert not torch.equal(first[1][0], first[2][0])
    assert not torch.equal(first[1][0], PracticeSounds(Sines(), 6, seed=1)[1][0])


def test_the_worlds_instruments_come_in_turn_with_all_programs_between() -> None:
    sounds = PracticeSounds(Sines(), 3 * 32)
    programs = [sounds[index][1] for index in range(3 * 16)]
    assert programs[::3] == list(range(16))
    for offset in (1, 2):
        assert [INSTRUMENT_OF[program] for program in programs[offset::3]] == list(INSTRUMENTS)


def test_every_program_of_an_instrument_counts_as_it_and_no_program_as_two() -> None:
    for name in INSTRUMENTS:
        assert {INSTRUMENT_OF[program] for program in SOUNDS[name].programs} == {name}
    assert max(INSTRUMENT_OF) < NUM_PROGRAMS


@pytest.mark.parametrize("program", [0, 40, 119])
def test_a_practice_sound_has_the_worlds_length_and_loudness(program: int) -> None:
    for seed in range(5):
        waveform = practice_sound(program, Sines(), random.Random(seed))
        assert waveform.shape == (NUM_SAMPLES,)
        assert np.sqrt(np.square(waveform).mean()) == pytest.approx(0.12, rel=1e-3)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_formula_is_finite_audible_and_ends(name: str) -> None:
    for seed, key in enumerate((-12, 0, 12)):
        rng = random.Random(seed)
        note = modelled_note(MODELS[name], SOUNDS[name].centre + key, 0.4, 0.2, rng)
        assert len(note) == round(0.6 * SAMPLE_RATE_HZ)
        assert np.isfinite(note).all()
        assert np.sqrt(np.square(note).mean()) > 0.03
        assert abs(note[-1]) < 1e-3


@pytest.mark.parametrize("name", ["piano", "violin", "trumpet", "tuba", "clarinet", "flute"])
def test_formulas_have_the_pitch_of_their_key(name: str) -> None:
    for seed in range(3):
        note = modelled_note(MODELS[name], 62, 0.8, 0.1, random.Random(seed))
        assert np.median(track_pitch(note).keys) == pytest.approx(62, abs=0.5)


def test_spectrograms_are_varied_each_in_its_own_way_and_keep_their_scale() -> None:
    sounds = PracticeSounds(Sines(), 4)
    spectrogram = sounds[1][0].float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = varied(torch.stack([spectrogram] * 2))
    assert first.shape == spectrogram.shape
    assert not torch.equal(first, second)
    assert -1 < float(first.min()) < float(first.max()) < 2
    assert torch.corrcoef(torch.stack([first.flatten(), spectrogram.flatten()]))[0, 1] > 0.3


def test_a_judge_hears_the_same_in_a_softer_sound() -> None:
    torch.manual_seed(0)
    network = SoundJudgeNetwork()
    judge = SoundJudge(network)
    sounds = [practice_sound(p, Sines(), random.Random(p)) for p in (0, 40, 73)]
    heard = judge.instruments_in(sounds)
    assert set(heard) <= set(INSTRUMENTS)
    assert judge.instruments_in([sound / 3 for sound in sounds]) == heard
    assert judge.instruments_in([]) == []


@pytest.mark.slow
def test_a_judge_is_trained_once_and_read_the_next_time(tmp_path: Path) -> None:
    def practice() -> PracticeSounds:
        made.append(True)
        return PracticeSounds(Sines(), 64)

    made: list[bool] = []
    first, second = SoundJudgeNetwork(num_steps=2), SoundJudgeNetwork(num_steps=2)
    load_or_train(first, tmp_path, practice)
    load_or_train(second, tmp_path, practice)
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not first.training
