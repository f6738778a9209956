"""The judge of sounds practises on what hangs on an index alone, and learns from it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_media import Sines

from nextgpt.evaluation.judge import load_or_train
from nextgpt.evaluation.music_trunk import SOURCE_FILE, MusicTrunk, log_power
from nextgpt.evaluation.sound_judge import SoundJudge, SoundJudgeNetwork
from nextgpt.evaluation.sound_practice import (
    INSTRUMENT_OF,
    NUM_PROGRAMS,
    PracticeSounds,
    level,
    practice_sound,
    varied,
)
from nextgpt.world.sounds import INSTRUMENTS, SOUNDS
from nextgpt.world.synthesis import NUM_SAMPLES


def test_a_practice_sound_hangs_on_its_index_alone() -> None:
    first, second = (PracticeSounds(Sines(), 6) for _ in range(2))
    backwards = {index: second[index] for index in reversed(range(6))}
    for index in range(6):
        assert torch.equal(first[index][0], backwards[index][0])
        assert first[index][1] == backwards[index][1]
    assert not torch.equal(first[1][0], first[2][0])
    assert not torch.equal(first[1][0], PracticeSounds(Sines(), 6, seed=1)[1][0])


def test_the_worlds_instruments_come_in_turn_with_all_programs_between() -> None:
    num = len(INSTRUMENTS)
    sounds = PracticeSounds(Sines(), 2 * num)
    programs = [sounds[index][1] for index in range(2 * num)]
    assert programs[::2] == list(range(num))
    assert [INSTRUMENT_OF[program] for program in programs[1::2]] == list(INSTRUMENTS)


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


def test_spectrograms_are_varied_each_in_its_own_way_and_keep_their_scale() -> None:
    sounds = PracticeSounds(Sines(), 4)
    spectrogram = sounds[1][0].float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = varied(torch.stack([spectrogram] * 2))
    assert first.shape == spectrogram.shape
    assert not torch.equal(first, second)
    assert abs(float(level(first[None]) - level(spectrogram[None]))) < 4
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


def test_a_trunk_of_another_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / SOURCE_FILE
    path.parent.mkdir(parents=True)
    np.zeros(1000, "<f4").tofile(path)
    with pytest.raises(ValueError, match="1000 numbers, not the 1818528 of the trunk"):
        MusicTrunk().load(tmp_path)


def test_a_trunk_reads_tensors_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = tmp_path / SOURCE_FILE
    path.parent.mkdir(parents=True)
    np.arange(1_818_528, dtype="<f4").tofile(path)
    trunk = MusicTrunk()
    trunk.load(tmp_path)
    first = trunk.convolutions[0]
    # Bias, its two moments of Adam, then the kernel (3, 3, 1, 128), output channels fastest.
    assert first.bias[:2].tolist() == [0, 1]
    assert first.weight[:2, 0, 0, 0].tolist() == [384, 385]
    assert first.weight[0, 0, 0, 1].item() == 384 + 128
    assert trunk.norms[0].running_var.item() == trunk.norms[0].running_mean.item() + 1


def test_the_trunk_sees_a_tone_in_its_band() -> None:
    times = torch.arange(NUM_SAMPLES) / 16_000
    low, high = (torch.sin(2 * torch.pi * f * times)[None] for f in (300, 3000))
    loudest = [log_power(tone)[0].mean(dim=1).argmax().item() for tone in (low, high)]
    assert loudest[0] < 15 < 55 < loudest[1]
    maps = MusicTrunk()(log_power(low))
    assert [tuple(m.shape) for m in maps][:2] == [(1, 128, 161, 96), (1, 128, 79, 48)]


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
