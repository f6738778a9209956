"""Signal tokens: numbered behind the words, one run a modality, only its first token is chosen."""

from __future__ import annotations

import pytest

from nextgpt.modality import Modality
from nextgpt.signals import SignalVocabulary

IMAGE, AUDIO, VIDEO = Modality.IMAGE, Modality.AUDIO, Modality.VIDEO
PAPER = SignalVocabulary(32_000, {VIDEO: 24, IMAGE: 4, AUDIO: 8})


def test_the_runs_fill_the_ids_behind_the_vocabulary_in_the_order_of_the_table() -> None:
    assert PAPER.modalities == [IMAGE, AUDIO, VIDEO]
    assert [PAPER.run(modality)[0] for modality in PAPER.modalities] == [32_000, 32_004, 32_012]
    ids = [token for modality in PAPER.modalities for token in PAPER.run(modality)]
    assert ids == list(range(32_000, 32_036))
    assert len(PAPER) == 36


def test_names_stand_in_the_order_of_the_ids() -> None:
    assert len(PAPER.names) == len(set(PAPER.names)) == len(PAPER)
    for modality in PAPER.modalities:
        row = PAPER.run(modality)[0] - PAPER.base_size
        assert PAPER.names[row : row + 2] == [f"<{modality}_0>", f"<{modality}_1>"]


def test_markers_stand_behind_the_signal_tokens_and_are_never_written() -> None:
    marked = SignalVocabulary(32_000, PAPER.num_signal_tokens, ("<Img>", "</Img>"))
    assert len(marked) == 38
    assert marked.names == [*PAPER.names, "<Img>", "</Img>"]
    assert marked.marker_ids == [32_036, 32_037]
    assert marked.forbidden(marked.modalities)[marked.marker_ids].all()
    assert marked.started_by(32_036) is None
    marked.reject_in("How do I write <Img> in HTML?")
    assert PAPER.marker_ids == []


def test_only_the_first_token_starts_a_run() -> None:
    starts = {token: PAPER.started_by(token) for token in range(31_990, 32_050)}
    assert {token: modality for token, modality in starts.items() if modality} == {
        32_000: IMAGE,
        32_004: AUDIO,
        32_012: VIDEO,
    }


@pytest.mark.parametrize("allowed", [[], [AUDIO], [IMAGE, VIDEO], [IMAGE, AUDIO, VIDEO]])
def test_words_and_the_first_tokens_of_allowed_modalities_may_be_sampled(
    allowed: list[Modality],
) -> None:
    mask = PAPER.forbidden(allowed)
    assert mask.shape == (32_036,)
    free = (~mask).nonzero().flatten().tolist()
    assert free == [*range(32_000), *(PAPER.run(modality)[0] for modality in allowed)]


def test_a_modality_without_signal_tokens_is_named() -> None:
    signals = SignalVocabulary(10, {IMAGE: 2, AUDIO: 2})
    with pytest.raises(ValueError, match="no signal tokens for video; it has image, audio"):
        signals.run(VIDEO)
    assert signals.forbidden([VIDEO]).sum() == len(signals)


@pytest.mark.parametrize("text", ["<image_0>", "draw <video_23> now", "x<audio_7>y"])
def test_text_that_spells_a_signal_token_is_refused_by_its_name(text: str) -> None:
    name = text[text.index("<") : text.index(">") + 1]
    with pytest.raises(ValueError, match=f"contains {name}, "):
        PAPER.reject_in(text)


@pytest.mark.parametrize("text", ["<image_4>", "<image>", "<image_0", "image_0", "<text_0>", ""])
def test_text_that_only_resembles_a_signal_token_is_welcome(text: str) -> None:
    PAPER.reject_in(text)
