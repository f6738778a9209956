"""Replies are kept as files, made once, and made anew for another model or seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tiny_chain import tiny_chain

from nextgpt.evaluation.answers import BATCH_SIZE, Answers, Draft, fingerprint, joined
from nextgpt.generation import MediumRequest, NextGPT
from nextgpt.messages import Message
from nextgpt.modality import Modality

if TYPE_CHECKING:
    from conftest import TinyParts


@pytest.fixture(scope="module")
def assistant(tiny: TinyParts) -> NextGPT:
    return NextGPT(tiny_chain(tiny))


def request(assistant: NextGPT, modality: Modality, seed: int = 0) -> MediumRequest:
    shape = assistant.model.decoders[modality].conditioning_shape
    generator = torch.Generator().manual_seed(seed)
    return MediumRequest(modality, torch.randn(1, *shape, generator=generator))


def drafts(assistant: NextGPT, count: int = 3) -> dict[str, Draft]:
    """Two pictures around a sound, with words in two pieces."""

    def draft(number: int) -> Draft:
        picture, sound = (request(assistant, m, number) for m in (Modality.IMAGE, Modality.AUDIO))
        return lambda: [picture, "Here ", "it is.", sound, picture]

    return {f"case-{number}": draft(number) for number in range(count)}


def kinds(reply: Message) -> list[str]:
    return ["text" if isinstance(part, str) else str(part.modality) for part in reply.parts]


def test_parts_come_in_the_order_they_were_written(assistant: NextGPT, tmp_path: Path) -> None:
    replies = Answers(assistant, tmp_path / "raw").get("set", drafts(assistant))
    assert list(replies) == ["case-0", "case-1", "case-2"]
    for reply in replies.values():
        assert kinds(reply) == ["image", "text", "audio", "image"]
        assert reply.text == "Here it is."


def test_every_medium_has_a_seed_of_its_own(assistant: NextGPT, tmp_path: Path) -> None:
    replies = Answers(assistant, tmp_path / "raw").get("set", drafts(assistant))
    seeds = [medium.seed for reply in replies.values() for medium in reply.media]
    assert len(set(seeds)) == len(seeds) == 9
    first, second = replies["case-0"].images
    assert not np.array_equal(np.asarray(first.pil), np.asarray(second.pil))


def test_an_interrupted_set_goes_on_and_ends_like_one_that_ran_through(
    assistant: NextGPT, tmp_path: Path
) -> None:
    cases = drafts(assistant, BATCH_SIZE + 2)
    whole = Answers(assistant, tmp_path / "whole").get("set", cases)
    interrupted = dict(cases)

    def stop() -> list[str | MediumRequest]:
        raise KeyboardInterrupt

    interrupted[f"case-{BATCH_SIZE}"] = stop
    with pytest.raises(KeyboardInterrupt):
        Answers(assistant, tmp_path / "parts").get("set", interrupted)
    rest = {id_: stop if number < BATCH_SIZE else draft
            for number, (id_, draft) in enumerate(cases.items())}  # fmt: skip
    resumed = Answers(assistant, tmp_path / "parts").get("set", rest)
    for id_, reply in whole.items():
        for first, second in zip(reply.images, resumed[id_].images, strict=True):
            assert np.array_equal(np.asarray(first.pil), np.asarray(second.pil))


def test_replies_are_written_without_rendering_and_rendered_when_wanted(
    assistant: NextGPT, tmp_path: Path
) -> None:
    answers, cases = Answers(assistant, tmp_path / "raw"), drafts(assistant)
    written = answers.write("set", cases)
    assert [str(m) for m in written["case-1"].modalities] == ["image", "audio", "image"]
    assert written["case-1"].text == "Here it is."
    assert not list((tmp_path / "raw" / "set").glob("*.png"))
    assert list(answers.get("set", cases, rendered=["case-1"])) == ["case-1"]
    assert {path.name for path in (tmp_path / "raw" / "set").glob("*.png")} == {
        "case-1-image-1.png",
        "case-1-image-2.png",
    }


def test_media_do_not_hang_on_what_else_is_rendered(assistant: NextGPT, tmp_path: Path) -> None:
    cases = drafts(assistant)
    alone = Answers(assistant, tmp_path / "a").get("set", cases, rendered=["case-2"])["case-2"]
    among_all = Answers(assistant, tmp_path / "b").get("set", cases)["case-2"]
    for first, second in zip(alone.images, among_all.images, strict=True):
        assert np.array_equal(np.asarray(first.pil), np.asarray(second.pil))


def test_replies_of_another_seed_or_model_are_not_taken(
    assistant: NextGPT, tiny: TinyParts, tmp_path: Path
) -> None:
    Answers(assistant, tmp_path / "raw").get("set", drafts(assistant, 1))
    others = ((assistant, 1), (NextGPT(tiny_chain(tiny, seed=1)), 0))
    for other, seed in others:
        reply = Answers(other, tmp_path / "raw", seed).get("set", {"case-0": lambda: ["new"]})
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
