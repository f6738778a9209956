"""Replies are kept as files, made once, and made anew for another model or seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tiny_chain import tiny_chain

from nextgpt.evaluation.answers import BATCH_SIZE, Answers, Writer, fingerprint, joined
from nextgpt.generation import NextGPT
from nextgpt.messages import Message
from nextgpt.modality import Modality
from nextgpt.writing import MediumRequest, Written

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture(scope="module")
def assistant(tiny: TinyParts) -> NextGPT:
    return NextGPT(tiny_chain(tiny))


def request(assistant: NextGPT, modality: Modality, seed: int = 0) -> MediumRequest:
    shape = assistant.model.decoders[modality].conditioning_shape
    generator = torch.Generator().manual_seed(seed)
    return MediumRequest(modality, torch.randn(1, *shape, generator=generator))


def cases(count: int = 3) -> dict[str, int]:
    """Numbers of replies to write."""
    return {f"case-{number}": number for number in range(count)}


@pytest.fixture(scope="module")
def scripted(assistant: NextGPT) -> Writer[int]:
    """Two pictures around a sound, with words in two pieces; replies are written in turn."""

    def write(numbers: list[int]) -> Iterator[tuple[int, Written]]:
        replies: list[list[Written]] = []
        for number in numbers:
            kinds = Modality.IMAGE, Modality.AUDIO
            picture, sound = (request(assistant, kind, number) for kind in kinds)
            replies.append([picture, "Here ", "it is.", sound, picture])
        for pieces in zip(*replies, strict=True):
            yield from enumerate(pieces)

    return write


def kinds(reply: Message) -> list[str]:
    return ["text" if isinstance(part, str) else str(part.modality) for part in reply.parts]


def test_parts_come_in_the_order_they_were_written(
    assistant: NextGPT, scripted: Writer[int], tmp_path: Path
) -> None:
    replies = Answers(assistant, tmp_path / "raw").get("set", cases(), scripted)
    assert list(replies) == ["case-0", "case-1", "case-2"]
    for reply in replies.values():
        assert kinds(reply) == ["image", "text", "audio", "image"]
        assert reply.text == "Here it is."


def test_every_medium_has_a_seed_of_its_own(
    assistant: NextGPT, scripted: Writer[int], tmp_path: Path
) -> None:
    replies = Answers(assistant, tmp_path / "raw").get("set", cases(), scripted)
    seeds = [medium.seed for reply in replies.values() for medium in reply.media]
    assert len(set(seeds)) == len(seeds) == 9
    first, second = replies["case-0"].images
    assert not np.array_equal(np.asarray(first.pil), np.asarray(second.pil))


def test_an_interrupted_set_goes_on_and_ends_like_one_that_ran_through(
    assistant: NextGPT, scripted: Writer[int], tmp_path: Path
) -> None:
    wanted = cases(BATCH_SIZE + 2)
    whole = Answers(assistant, tmp_path / "whole").get("set", wanted, scripted)
    seen: list[int] = []

    def interrupted(numbers: list[int]) -> Iterator[tuple[int, Written]]:
        for number, (row, piece) in enumerate(scripted(numbers)):
            if BATCH_SIZE in numbers and number == 3:
                raise KeyboardInterrupt
            yield row, piece

    def rest(numbers: list[int]) -> Iterable[tuple[int, Written]]:
        seen.extend(numbers)
        return scripted(numbers)

    with pytest.raises(KeyboardInterrupt):
        Answers(assistant, tmp_path / "parts").get("set", wanted, interrupted)
    resumed = Answers(assistant, tmp_path / "parts").get("set", wanted, rest)
    assert seen == [BATCH_SIZE, BATCH_SIZE + 1]
    for id_, reply in whole.items():
        for first, second in zip(reply.images, resumed[id_].images, strict=True):
            assert np.array_equal(np.asarray(first.pil), np.asarray(second.pil))


def test_replies_are_written_without_rendering_and_rendered_when_wanted(
    assistant: NextGPT, scripted: Writer[int], tmp_path: Path
) -> None:
    answers = Answers(assistant, tmp_path / "raw")
    written = answers.write("set", cases(), scripted)
    assert [str(m) for m in written["case-1"].modalities] == ["image", "audio", "image"]
    assert written["case-1"].text == "Here it is."
    assert not list((tmp_path / "raw" / "set").glob("*.png"))
    assert list(answers.get("set", cases(), scripted, rendered=["case-1"])) == ["case-1"]
    assert {path.name for path in (tmp_path / "raw" / "set").glob("*.png")} == {
        "case-1-image-1.png",
        "case-1-image-2.png",
    }


def test_media_do_not_hang_on_what_else_is_rendered(
    assistant: NextGPT, scripted: Writer[int], tmp_path: Path
) -> None:
    alone = Answers(assistant, tmp_path / "a").get("set", cases(), scripted, rendered=["case-2"])[
        "case-2"
    ]
    among_all = Answers(assistant, tmp_path / "b").get("set", cases(), scripted)["case-2"]
    for first, second in zip(alone.images, among_all.images, strict=True):
        assert np.array_equal(np.asarray(first.pil), np.asarray(second.pil))


def test_replies_of_another_seed_or_model_are_not_taken(
    assistant: NextGPT, scripted: Writer[int], tiny: TinyParts, tmp_path: Path
) -> None:
    Answers(assistant, tmp_path / "raw").get("set", cases(1), scripted)
    others = ((assistant, 1), (NextGPT(tiny_chain(tiny, seed=1)), 0))
    for other, seed in others:
        reply = Answers(other, tmp_path / "raw", seed).get("set", cases(1), lambda _: [(0, "new")])
        assert reply["case-0"].parts == ["new"]


def test_a_fingerprint_follows_weights_and_settings(tiny: TinyParts) -> None:
    chain = tiny_chain(tiny)
    before = fingerprint(chain)
    assert fingerprint(tiny_chain(tiny)) == before
    chain.decoders[Modality.IMAGE].guidance_scale += 1
    after_setting = fingerprint(chain)
    with torch.no_grad():
        next(iter(chain.output_projections.parameters())).add_(1)
    assert len({before, after_setting, fingerprint(chain)}) == 3


def test_neighbouring_pieces_of_text_become_one(assistant: NextGPT) -> None:
    picture = request(assistant, Modality.IMAGE)
    assert joined(["a", "b", picture, picture, "c"]) == ["ab", picture, picture, "c"]
