"""The losses of media and captions, against what is worked out another way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_bert import SIZES, tiny_bert
from torch.nn import functional

from nextgpt.bridges.contrastive import (
    QFormerHeads,
    contrastive_loss,
    hard_negatives,
    matching_loss,
    query_similarities,
)
from nextgpt.bridges.qformer import QFormerConnector

CAPTIONS = ["a dog on the blue background", "a cat", "the rocket moves up"]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, QFormerHeads]:
    """A Q-Former and its heads, in evaluation mode."""
    bert = str(tiny_bert(tmp_path_factory.mktemp("bert")))
    torch.manual_seed(0)
    qformer = QFormerConnector(12, 1, 3, **SIZES, tokenizer=bert, source=bert).qformer.eval()
    return qformer, QFormerHeads(SIZES["hidden_size"], qformer.start_id + 1, 8)


def test_a_medium_is_as_like_a_text_as_its_likest_query() -> None:
    queries, texts = drawn(2, 3, 4), drawn(5, 4, seed=1)
    expected = [
        [max(float(query @ text) for query in medium) for text in texts] for medium in queries
    ]
    torch.testing.assert_close(query_similarities(queries, texts), torch.tensor(expected))


def test_contrast_is_smoothed_and_counts_both_ways_half() -> None:
    similarities = drawn(4, 4)
    target = torch.full((4, 4), 0.1 / 4) + 0.9 * torch.eye(4)
    ways = [
        -(target * each.log_softmax(1)).sum(1).mean() for each in (similarities, similarities.T)
    ]
    torch.testing.assert_close(contrastive_loss(similarities), sum(ways) / 2)


def test_a_hard_negative_is_never_the_own_pair_however_likely() -> None:
    similarities = 1000 * torch.eye(6)
    own = torch.arange(6)
    for seed in range(50):
        for negatives in hard_negatives(similarities, torch.Generator().manual_seed(seed)):
            assert not (negatives == own).any()
    for negatives in hard_negatives(drawn(2, 2)):
        assert negatives.tolist() == [1, 0]


def test_hard_negatives_are_drawn_as_often_as_they_are_likely() -> None:
    similarities = torch.tensor([[9.0, 0.0, 1.0], [2.0, 9.0, 0.0], [0.0, 1.5, 9.0]])
    counts = torch.zeros(2, 3, 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        media, texts = hard_negatives(similarities, generator)
        counts[0, torch.arange(3), media] += 1
        counts[1, torch.arange(3), texts] += 1
    others = similarities.masked_fill(torch.eye(3).bool(), -torch.inf)
    expected = torch.stack([others.T.softmax(1), others.softmax(1)])
    assert (counts / 2000 - expected).abs().max() < 0.04  # a deviation is 0.011 at most


def test_a_batch_of_one_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        hard_negatives(torch.zeros(1, 1))


def test_matching_wants_yes_of_the_first_third_and_no_of_the_rest() -> None:
    logits = drawn(6, 2)
    expected = functional.cross_entropy(logits, torch.tensor([1, 1, 0, 0, 0, 0]))
    assert torch.equal(matching_loss(logits), expected)


def test_the_temperature_starts_where_the_paper_has_it(parts: Any) -> None:
    _, heads = parts
    assert heads.temperature.item() == pytest.approx(0.07)
    queries, words = drawn(2, 3, 16), drawn(2, 4, 16, seed=1)
    assert heads.similarities(queries, words).abs().max() <= 1 / 0.07


def test_a_later_token_changes_no_bit_of_what_stands_before(parts: Any) -> None:
    qformer, heads = parts
    ids, mask = qformer.tokenize(["a dog on the blue background"])
    changed = ids.clone()
    changed[0, 4] += 1
    features = drawn(1, 5, 12)
    logits, other = (
        heads.word_logits(qformer, qformer(features, each, mask, "causal")[1])
        for each in (ids, changed)
    )
    assert torch.equal(logits[0, :4], other[0, :4])
    assert not torch.allclose(logits[0, 4:], other[0, 4:])


def test_the_losses_are_those_of_pairs_and_captions_one_by_one(parts: Any) -> None:
    qformer, heads = parts
    features = drawn(3, 5, 12)
    losses = heads(qformer, features, CAPTIONS, torch.Generator().manual_seed(3))
    ids, mask = qformer.tokenize(CAPTIONS)

    media = functional.normalize(heads.media(qformer(features)[0]), dim=-1)
    texts = [
        qformer.model(
            query_embeds=qformer.embeddings(row[None, : int(kept.sum())]), query_length=0
        ).last_hidden_state[0, 0]
        for row, kept in zip(ids, mask, strict=True)
    ]
    texts = functional.normalize(heads.texts(torch.stack(texts)), dim=-1)
    similarities = query_similarities(media, texts) / 0.07
    torch.testing.assert_close(losses.contrast, contrastive_loss(similarities))
    found = (similarities.argmax(1) == torch.arange(3)).float().mean()
    assert losses.found == found

    wrong_media, wrong_texts = hard_negatives(similarities, torch.Generator().manual_seed(3))
    pairs = [
        *((number, number) for number in range(3)),
        *((int(wrong_media[number]), number) for number in range(3)),
        *((number, int(wrong_texts[number])) for number in range(3)),
    ]
    logits = torch.stack(
        [
            heads.matching(
                qformer(features[medium, None], *qformer.tokenize([CAPTIONS[text]]))[0][0]
            ).mean(0)
            for medium, text in pairs
        ]
    )
    torch.testing.assert_close(losses.matching, matching_loss(logits))

    # Word by word, each from the words before it alone.
    surprises = []
    for number, caption in enumerate(CAPTIONS):
        tokens, _ = qformer.tokenize([caption])
        for place in range(1, tokens.shape[1]):
            before = tokens[:, :place].clone()
            before[0, 0] = qformer.start_id
            _, words = qformer(features[number, None], before, torch.ones_like(before), "causal")
            scores = heads.word_logits(qformer, words[0, -1]).log_softmax(-1)
            surprises.append(-scores[tokens[0, place]])
    torch.testing.assert_close(losses.caption, torch.stack(surprises).mean())


def test_all_parts_of_the_paper_are_as_many_parameters_as_it_says() -> None:
    with torch.device("meta"):
        source = "hf:google-bert/bert-base-uncased@main"
        qformer = QFormerConnector(1408, 1, tokenizer=source).qformer
        heads = QFormerHeads(768, qformer.start_id + 1)
    total = sum(p.numel() for part in (qformer, heads) for p in part.parameters())
    assert total - sum(p.numel() for p in qformer.norm.parameters()) == 186_702_654
    assert sum(p.numel() for p in qformer.norm.parameters()) == 2 * 1408
