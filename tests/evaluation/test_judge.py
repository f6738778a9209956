"""The judge learns from drawings alone, and its practice pictures come from their index."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
import torch

from nextgpt.evaluation.judge import Judge, JudgeNetwork, train
from nextgpt.evaluation.practice import PracticePictures, recolour, warp
from nextgpt.world.concepts import Drawing
from nextgpt.world.pictures import render

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10" width="256" height="256">'
STAR = f'{HEAD}<path fill="#fc2" stroke="#202020" d="M5 0 10 10 0 4h10L0 10z"/></svg>'
KEY = f'{HEAD}<path fill="#888888" d="M0 4h6v-3h4v8h-4v-3H0z"/></svg>'
DRAWINGS = [
    (Drawing("star", "nobody", "star", "whole"), STAR),
    (Drawing("key", "nobody", "key", "whole"), KEY),
]


def test_a_practice_picture_hangs_on_its_index_alone() -> None:
    first, second = (PracticePictures(DRAWINGS, 8, 32) for _ in range(2))
    backwards = {index: second[index] for index in reversed(range(8))}
    for index in range(8):
        assert torch.equal(first[index][0], backwards[index][0])
        assert first[index][1] == backwards[index][1]
    assert not torch.equal(first[0][0], first[2][0])


def test_concepts_come_in_turn() -> None:
    labels = [label for _, label in (PracticePictures(DRAWINGS, 6, 32)[i] for i in range(6))]
    assert labels == labels[:2] * 3
    assert len(set(labels)) == 2


def test_recolouring_changes_colours_and_nothing_else() -> None:
    changed = {recolour(STAR, random.Random(seed)) for seed in range(8)}
    assert len(changed) == 8
    assert all('d="M5 0 10 10 0 4h10L0 10z"' in svg for svg in changed)
    assert not any("#fc2" in svg for svg in changed)


def test_a_warped_drawing_is_another_shape_and_not_cut_off() -> None:
    sprite = render(KEY)
    warped = warp(sprite, random.Random(0))
    assert warped.size != sprite.size
    ratio = _area(warped) / _area(sprite)
    assert 0.5 < ratio < 2


def _area(sprite: PIL.Image.Image) -> int:
    return sum(sprite.getchannel("A").histogram()[128:])


def counted(step: Callable, taken: list) -> Callable:
    def counting(batch: list[torch.Tensor]) -> torch.Tensor:
        taken.append(batch)
        return step(batch)

    return counting


@pytest.mark.slow
def test_an_interrupted_training_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextgpt.evaluation.judge.STEPS_BETWEEN_CHECKPOINTS", 1)
    torch.manual_seed(0)
    pictures = PracticePictures(DRAWINGS, 64, 32)
    network = JudgeNetwork(image_size=32, num_steps=4)
    step, taken = network.training_step, []

    def interrupted(batch: list[torch.Tensor]) -> torch.Tensor:
        if len(taken) == 3:
            raise RuntimeError("the power went")
        taken.append(batch)
        return step(batch)

    monkeypatch.setattr(network, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="the power went"):
        train(network, pictures, tmp_path)
    assert (tmp_path / "last.ckpt").exists()
    network = JudgeNetwork(image_size=32, num_steps=4)
    before = network.classifier.weight.clone()
    monkeypatch.setattr(network, "training_step", counted(network.training_step, resumed := []))
    train(network, pictures, tmp_path)
    assert len(resumed) == 1
    assert not torch.equal(before, network.classifier.weight)
    assert len(Judge(network).concepts_in([PIL.Image.new("RGB", (64, 64), "red")])) == 1
