"""The Q-Former: who sees whom, what it reads, its sizes, and what it is loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_bert import SIZES, tiny_bert
from torch import Tensor, nn
from transformers import AutoModel

from nextgpt.bridges import qformer_files
from nextgpt.bridges.qformer import QFormer, QFormerConnector, attention_pattern
from nextgpt.layout import Layout

INPUT, OUTPUT, QUERIES = 12, 20, 3
BERT_BASE = "hf:google-bert/bert-base-uncased@main"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bert(tmp_path_factory.mktemp("bert")))


def connector(tokenizer: str | None = None, **options: Any) -> QFormerConnector:
    torch.manual_seed(0)
    built = QFormerConnector(
        INPUT, OUTPUT, num_queries=QUERIES, tokenizer=tokenizer, **(SIZES | options)
    )
    # Weights of a fiftieth would hide what differs; and vectors of zeros too.
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built.eval()


def features(num_views: int, seed: int = 0) -> Tensor:
    return torch.randn(num_views, 5, INPUT, generator=torch.Generator().manual_seed(seed))


def drawn(rows: str) -> list[list[bool]]:
    return [[place == "x" for place in row.split()] for row in rows.strip().splitlines()]


PATTERNS = {
    "separate": """
        x x . . .
        x x . . .
        . . x x .
        . . x x .
        . . x x .
    """,
    "joint": """
        x x x x .
        x x x x .
        x x x x .
        x x x x .
        x x x x .
    """,
    "causal": """
        x x . . .
        x x . . .
        x x x . .
        x x x x .
        x x x x .
    """,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_two_queries_and_two_words_of_three_see_each_other_as_drawn(pattern: Any) -> None:
    text_mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    allowed = attention_pattern(pattern, 2, text_mask)
    assert allowed.shape == (2, 1, 5, 5)
    assert allowed[0, 0].tolist() == drawn(PATTERNS[pattern])
    # Without padding the last word is as the others.
    full = attention_pattern(pattern, 2, torch.ones(1, 3))[0, 0]
    assert torch.equal(allowed[1, 0], full)
    assert bool(full[4, 4])


def test_an_unknown_pattern_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="prefix"):
        attention_pattern("prefix", 2, torch.ones(1, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_model_attends_along_the_pattern_and_nowhere_else(pattern: Any, bert: str) -> None:
    # One layer alone: what a state depends on is then what it looks at, and itself.
    qformer = connector(bert, num_layers=1).qformer
    text_mask = torch.tensor([[1, 1, 1, 0]])
    embeds: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, embedded: Tensor) -> Tensor:
        embeds.append(embedded.detach().requires_grad_())
        return embeds[-1]

    qformer.model.layernorm.register_forward_hook(keep)
    states = torch.cat(
        qformer(features(1), torch.tensor([[2, 5, 9, 0]]), text_mask, pattern), dim=1
    )
    allowed = attention_pattern(pattern, QUERIES, text_mask)[0, 0]
    for place in range(QUERIES + 4):
        (gradient,) = torch.autograd.grad(
            states[0, place].square().sum(), embeds, retain_graph=True
        )
        seen = gradient[0].abs().amax(dim=-1) > 0
        expected = allowed[place].clone()
        expected[place] = True
        assert seen.tolist() == expected.tolist()


def test_text_never_looks_at_the_features_by_itself(bert: str) -> None:
    qformer = connector(bert).qformer
    ids, mask = qformer.tokenize(["the dog"])
    queries, words = qformer(features(1), ids, mask, "separate")
    other_queries, other_words = qformer(features(1, seed=1), ids, mask, "separate")
    assert torch.equal(words, other_words)
    assert not torch.allclose(queries, other_queries)


def test_queries_and_text_that_do_not_see_each_other_are_as_if_alone(bert: str) -> None:
    qformer = connector(bert).qformer
    ids, mask = qformer.tokenize(["the dog is on the right", "a cat"])
    queries, words = qformer(features(2), ids, mask, "separate")
    alone, _ = qformer(features(2))
    # Bit for bit on some processors; others compute attention with and without a mask apart.
    torch.testing.assert_close(queries, alone, atol=1e-5, rtol=0)
    text = qformer.model(
        query_embeds=qformer.embeddings(ids), query_length=0, attention_mask=mask
    ).last_hidden_state
    torch.testing.assert_close(
        words[mask.bool()], text[mask.bool()], atol=1e-5, rtol=0
    )  # worst: 1.3e-7


def test_queries_that_write_a_caption_do_not_know_it(bert: str) -> None:
    qformer = connector(bert).qformer
    states = [
        qformer(features(1), *qformer.tokenize([text]), "causal")[0]
        for text in ("the dog is blue", "the cat is red")
    ]
    assert torch.equal(*states)


def test_it_gives_as_many_tokens_as_queries_whatever_is_read(bert: str) -> None:
    for built in (connector(), connector(bert)):
        assert built.num_tokens(257) == built.num_tokens(1) == QUERIES
        assert built.output_size == OUTPUT
        for num_features in (1, 7):
            assert built(torch.randn(2, num_features, INPUT)).shape == (2, QUERIES, OUTPUT)


def test_it_wants_to_know_what_is_said_only_with_a_tokenizer(bert: str) -> None:
    assert connector(bert).needs_text
    plain = connector()
    assert not plain.needs_text
    layouts = [Layout(), Layout(num_views=2)]
    assert torch.equal(plain.connect(features(3), layouts, None), plain(features(3)))
    assert not [name for name in plain.state_dict() if "embeddings" in name]


def test_another_instruction_gives_other_tokens(bert: str) -> None:
    built = connector(bert)
    media = features(1).expand(3, -1, -1)
    texts = ["what is this", "which colour is this", "what is this"]
    first, other, again = built.connect(media, [Layout()] * 3, texts)
    # At worst 5e-7: rows of a product are summed in another order.
    torch.testing.assert_close(first, again, atol=5e-6, rtol=0)
    assert (first - other).abs().max() > 0.01  # measured 0.06


def test_neither_padding_nor_company_changes_the_tokens(bert: str) -> None:
    built = connector(bert)
    texts = ["what", "which colour is the car on the right", "", "what is this"]
    together = built.connect(features(4), [Layout()] * 4, texts)
    for number, text in enumerate(texts):
        alone = built.connect(features(4)[number, None], [Layout()], [text])
        torch.testing.assert_close(together[number], alone[0], atol=1e-5, rtol=0)  # worst: 5e-7


def test_without_an_instruction_the_queries_read_the_medium_alone(bert: str) -> None:
    built = connector(bert)
    expected = built.output(built.qformer(features(2))[0])
    for text in ("", " \n"):
        tokens = built.connect(features(2), [Layout()] * 2, [text] * 2)
        assert torch.equal(tokens, expected)
    assert torch.equal(built(features(2)), expected)


def test_every_frame_is_read_with_the_instruction_of_its_video(bert: str) -> None:
    built = connector(bert)
    texts = ["what moves", "which colour is this"]
    tokens = built.connect(features(4), [Layout(num_views=3), Layout()], texts)
    each = built.connect(features(4), [Layout()] * 4, [texts[0]] * 3 + [texts[1]])
    assert torch.equal(tokens, each)


def test_a_long_instruction_is_cut(bert: str) -> None:
    built = connector(bert, max_text_tokens=5)
    ids, mask = built.qformer.tokenize(["the dog is on the right", "cat"])
    assert mask.sum(dim=1).tolist() == [5, 3]
    assert ids[:, 0].tolist() == [2, 2]
    assert ids[0, -1] == ids[1, 2] == 3
    assert ids[1, 3:].tolist() == [0, 0]


@pytest.mark.parametrize("reads", [False, True])
def test_with_no_media_every_weight_still_takes_part(reads: bool, bert: str) -> None:
    built = connector(bert if reads else None).train()
    tokens = built.connect(torch.zeros(0, 5, INPUT), [], [])
    assert tokens.shape == (0, QUERIES, OUTPUT)
    tokens.sum().backward()
    assert all(not parameter.grad.any() for parameter in built.parameters())


@pytest.mark.parametrize("reads", [False, True])
def test_every_weight_has_a_gradient_but_that_of_the_last_text(reads: bool, bert: str) -> None:
    built = connector(bert if reads else None)
    built.connect(
        features(2), [Layout()] * 2, ["what is this", "the dog"]
    ).square().sum().backward()
    still = {name for name, parameter in built.named_parameters() if not parameter.grad.any()}
    last = "qformer.model.encoder.layer.1"
    unread = {name for name, _ in built.named_parameters() if name.startswith(last)}
    unread = {name for name in unread if name.split(".")[5] in ("intermediate", "output")}
    # A bias of all keys moves no attention.
    assert {name for name in still if not name.endswith("attention.key.bias")} == unread
    assert bool(unread) == reads


def test_dropout_is_for_training_only(bert: str) -> None:
    built = connector(bert).train()
    assert not torch.equal(built(features(1)), built(features(1)))
    built.requires_grad_(False)
    assert torch.equal(built(features(1)), built(features(1)))


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_sizes_of_the_default_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        built = QFormerConnector(1408, 4096, tokenizer=BERT_BASE)
        silent = QFormerConnector(1408, 4096)
        assert silent(torch.zeros(3, 257, 1408)).shape == (3, 32, 4096)
    qformer = built.qformer
    assert count(qformer.model.encoder) == 161_823_744
    assert count(qformer.embeddings, qformer.model.layernorm) == 23_836_416
    assert qformer.queries.numel() == 24_576
    assert qformer.start_id == 30_522
    # Without text, a feed-forward layer in each of twelve is not there.
    text_layer = 2 * 768 * 3072 + 3072 + 768 + 2 * 768
    assert count(silent.qformer.model.encoder) == 161_823_744 - 12 * text_layer


def test_it_is_built_and_run_on_the_meta_device_without_files(monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with torch.device("meta"):
        built = QFormerConnector(64, 128, num_layers=2, source="./not/there")
        assert built(torch.zeros(2, 9, 64)).shape == (2, 32, 128)


@pytest.mark.parametrize("reads", [False, True])
def test_what_was_written_is_read_back_but_for_the_linear_layer(
    reads: bool, bert: str, tmp_path: Path
) -> None:
    written = connector(bert)
    qformer_files.save(written.qformer, tmp_path)
    read = QFormerConnector(
        INPUT,
        OUTPUT + 1,
        QUERIES,
        **SIZES,
        tokenizer=bert if reads else None,
        source=str(tmp_path),
    ).eval()
    expected, _ = written.qformer(features(2))
    assert torch.equal(read.qformer(features(2))[0], expected)
    assert read(features(2)).shape == (2, QUERIES, OUTPUT + 1)
    if reads:
        text = written.qformer.tokenize(["what is this", "the dog"])
        both = [each.qformer(features(2), *text)[0] for each in (written, read)]
        assert torch.equal(*both)


def test_bert_starts_the_text_and_is_copied_for_the_queries(bert: str) -> None:
    started = QFormerConnector(INPUT, OUTPUT, QUERIES, **SIZES, tokenizer=bert, source=bert).eval()
    qformer, ids = started.qformer, torch.tensor([[2, 6, 9, 3]])
    states = qformer.model(query_embeds=qformer.embeddings(ids), query_length=0).last_hidden_state
    model = AutoModel.from_pretrained(bert).eval()
    nn.init.zeros_(model.embeddings.token_type_embeddings.weight)  # BERT alone has two kinds.
    assert torch.equal(states, model(ids).last_hidden_state)
    for layer in qformer.model.encoder.layer:
        for text, query in (
            (layer.intermediate, layer.intermediate_query),
            (layer.output, layer.output_query),
        ):
            for name, value in text.state_dict().items():
                assert torch.equal(value, query.state_dict()[name])
    assert qformer.embeddings.word_embeddings.num_embeddings == qformer.start_id + 1
    silent = QFormerConnector(INPUT, OUTPUT, QUERIES, **SIZES, source=bert).eval()
    query = silent.qformer.model.encoder.layer[1].intermediate_query.dense.weight
    assert torch.equal(query, model.encoder.layer[1].intermediate.dense.weight)


@pytest.mark.parametrize("name", ["num_queries", "num_heads", "cross_attention_frequency"])
def test_a_source_of_other_sizes_is_refused_by_name(name: str, bert: str, tmp_path: Path) -> None:
    qformer_files.save(connector(bert).qformer, tmp_path)
    options: dict[str, Any] = {"num_queries": QUERIES, **SIZES, name: 4}
    with pytest.raises(ValueError, match=f"{name} is 4"):
        QFormerConnector(INPUT, OUTPUT, **options, tokenizer=bert, source=str(tmp_path))


def test_a_source_that_read_no_text_cannot_start_one_that_does(bert: str, tmp_path: Path) -> None:
    qformer_files.save(connector().qformer, tmp_path)
    with pytest.raises(ValueError, match="embeddings.position_embeddings"):
        connector(bert, source=str(tmp_path))


def test_what_is_no_bert_is_refused(bert: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="llama"):
        connector(source=str(tmp_path))
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        connector(str(tmp_path))
    with pytest.raises(ValueError, match="num_heads 3 .* hidden_size 16"):
        QFormer(INPUT, hidden_size=16, num_heads=3)
