"""A converted file is a model: it speaks as the original's parts do, alone and merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from original_files import (
    SIZES,
    mappers,
    original_language_model,
    original_weights,
    plain_chain,
    write_config,
    write_file,
)
from tiny_chain import medium, tiny_chain_config
from tiny_parts import tiny_language_model
from torch import Tensor

from nextgpt import Conversation, NextGPT, checkpoint
from nextgpt.cli import main
from nextgpt.conversion import convert_checkpoint
from nextgpt.conversion.original import ADDED_TOKENS, NUM_SIGNAL_TOKENS
from nextgpt.modality import Modality

if TYPE_CHECKING:
    from conftest import TinyParts

VOCABULARY_SIZE = 300
WORDS = [5, 250, 299, 17]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose weights float16 holds exactly, as Vicuna's are."""
    from transformers import AutoModelForCausalLM

    folder = tiny_language_model(tmp_path_factory.mktemp("base"), tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    model.float().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def original(base: Path) -> Any:
    return original_language_model(base)


@pytest.fixture(scope="module")
def converted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose language model alone can be built."""
    folder = tmp_path_factory.mktemp("converted")
    file = write_file(original_weights(base), folder / "pytorch_model.pt")
    config = write_config(folder / "chain.yaml", plain_chain())
    report = convert_checkpoint(file, folder / "model", config, str(base))
    assert report.drift["input"] == report.drift["output"] == {"whole": 0.0, "most": 0.0}
    return folder / "model"


def theirs_of(names: list[str]) -> list[int]:
    """Ids of added tokens in the original."""
    return [VOCABULARY_SIZE + ADDED_TOKENS.index(name) for name in names]


@torch.no_grad()
def test_a_merged_model_scores_as_the_original_does(
    converted: Path, original: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert main(["merge", str(converted), "--out", str(tmp_path / "merged")]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    names = sorted(ADDED_TOKENS)
    ours = tokenizer.convert_tokens_to_ids(names)
    assert sorted(ours) == list(range(VOCABULARY_SIZE, VOCABULARY_SIZE + 38))
    assert tokenizer.encode("<Img><image_0>", add_special_tokens=False) == (
        tokenizer.convert_tokens_to_ids(["<Img>", "<image_0>"])
    )
    scores = model(torch.tensor([WORDS + ours])).logits
    expected = original(torch.tensor([WORDS + theirs_of(names)])).logits
    # Measured worst case 7e-7 of 0.5.
    close = {"atol": 1e-4, "rtol": 0}
    words = slice(0, VOCABULARY_SIZE)
    torch.testing.assert_close(scores[..., words], expected[..., words], **close)
    torch.testing.assert_close(scores[..., ours], expected[..., theirs_of(names)], **close)
    assert scores.shape == expected.shape == (1, len(WORDS) + 38, VOCABULARY_SIZE + 38)


def test_merging_leaves_a_directory_that_holds_something_alone(
    converted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(converted), "--out", str(converted)]) == 1
    assert f"{converted} exists already" in capsys.readouterr().err


@torch.no_grad()
def test_a_converted_chain_reads_and_writes_as_the_original_parts_do(
    tiny: TinyParts, base: Path, original: Any, tmp_path: Path
) -> None:
    chain = tiny_chain_config(tiny)
    chain["language_model"]["source"] = str(base)
    chain["output_projection"]["init_args"] = dict(SIZES)
    weights = original_weights(base)
    file = write_file(weights, tmp_path / "pytorch_model.pt")
    convert_checkpoint(
        file, tmp_path / "model", write_config(tmp_path / "c.yaml", chain), str(base)
    )
    model = NextGPT.from_pretrained(tmp_path / "model")
    picture = medium("image")
    plan = model.model.prompter.generation_plan(Conversation().user(picture, "Hi"), reserve=0)

    # The original: word and marker embeddings around the projected feature, then a run.
    names = model.model.language_model.signals.names
    places = {model.model.language_model.vocabulary_size + i: n for i, n in enumerate(names)}
    [slot] = plan.slots
    ids = [theirs_of([places[i]])[0] if i in places else i for i in plan.input_ids.tolist()]
    assert ids[slot.start - 1 : slot.start + 2 : 2] == theirs_of(["<Img>", "</Img>"])
    run = theirs_of([name for name in ADDED_TOKENS if name.startswith("<image_")])
    embeds = original.get_input_embeddings()(torch.tensor([ids + run]))
    tensor = model.model.encoder.preprocess(Modality.IMAGE, picture)
    feature = model.model.encoder.encode(Modality.IMAGE, tensor[None])
    weight, bias = (weights[f"llama_proj.{name}"] for name in ("weight", "bias"))
    embeds[0, slot.start] = feature[0, 0] @ weight.T + bias
    states = original(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1]
    count = NUM_SIGNAL_TOKENS[Modality.IMAGE]
    mapper: Tensor = mappers(32)[Modality.IMAGE](states[:, -count:], embeds[:, -count:])

    pieces = model.write(
        [Conversation().user(picture, "Hi")], modalities=["image"], max_new_tokens=0
    )
    [(_, asked)] = list(pieces)
    # Measured worst case 4e-6.
    torch.testing.assert_close(asked.conditioning, mapper, atol=1e-3, rtol=0)
    reply = model.chat([picture, "Hi"], modalities=["image"], max_new_tokens=4)
    assert len(reply.images) == 1
    assert checkpoint.load(tmp_path / "model").language_model.template == "vicuna_v0"
