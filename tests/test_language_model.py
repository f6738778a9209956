"""The language model: its own weights stay, signal rows stand behind them, LoRA comes and goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_parts import tiny_language_model
from torch import Tensor

from nextgpt.language_model import LanguageModel, LoraOptions, load_exactly
from nextgpt.modality import Modality

if TYPE_CHECKING:
    from conftest import TinyParts

SIGNALS = {Modality.IMAGE: 2, Modality.AUDIO: 3}
WORDS = torch.tensor([[5, 250, 299, 17, 40, 1]])
SIGNAL_IDS = torch.tensor([[300, 301, 302, 303, 304]])
CAN_QUANTISE = torch.cuda.is_available() and find_spec("bitsandbytes") is not None
LORA = LoraOptions(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj"])


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an output table of its own."""
    return tiny_language_model(tmp_path_factory.mktemp("untied"), tie_word_embeddings=False)


@pytest.fixture(params=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tiny: TinyParts, untied: Path) -> Path:
    return tiny.language_model if request.param == "tied" else untied


def loaded(folder: Path, lora: LoraOptions = LORA, dtype: str = "float32") -> LanguageModel:
    model = LanguageModel(str(folder), lora=lora, dtype=dtype)
    model.add_signal_tokens(SIGNALS)
    return model.eval()


@torch.no_grad()
def logits(model: LanguageModel, input_ids: Tensor) -> Tensor:
    return model.logits(model(model.embed(input_ids)))


def train_lora(model: LanguageModel) -> None:
    """Give the adapter values as after training, which float16 holds exactly."""
    generator = torch.Generator().manual_seed(0)
    model.add_lora()
    with torch.no_grad():
        for parameter in model.lora_parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).half())


# Signal rows


def test_words_are_embedded_and_scored_as_without_signal_tokens(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = loaded(folder)
    ours = logits(model, WORDS)
    assert ours.shape == (1, 6, 300 + 5)
    with torch.no_grad():
        torch.testing.assert_close(ours[..., :300], reference(WORDS).logits)
    state = model.llm.state_dict()
    assert all(torch.equal(state[key], value) for key, value in reference.state_dict().items())


def test_signal_tokens_are_embedded_and_scored_by_their_rows(folder: Path) -> None:
    model = loaded(folder)
    tied = folder.name == "language_model"
    assert set(model.signal_rows) == ({"input"} if tied else {"input", "output"})
    embeds = model.embed(torch.cat([WORDS, SIGNAL_IDS], dim=1))
    torch.testing.assert_close(embeds[0, 6:], model.signal_rows["input"])
    torch.testing.assert_close(embeds[:, :6], model.embed(WORDS))
    with torch.no_grad():
        states = model(embeds)
        expected = states @ model.signal_rows["input" if tied else "output"].T
        torch.testing.assert_close(model.logits(states)[..., 300:], expected)


def test_rows_are_the_same_every_time_and_unlike_each_other(folder: Path) -> None:
    rows, again = (dict(loaded(folder).signal_rows) for _ in range(2))
    for name, value in rows.items():
        assert torch.equal(value, again[name])
        assert torch.cdist(value, value)[~torch.eye(5, dtype=torch.bool)].min() > 0


def test_half_precision_weights_give_float32_scores_and_rows(tiny: TinyParts) -> None:
    model = loaded(tiny.language_model, dtype="bfloat16")
    both = torch.cat([WORDS, SIGNAL_IDS], dim=1)
    assert model.signal_rows["input"].dtype == torch.float32
    assert model.embed(both).dtype == torch.bfloat16
    scores = logits(model, both)
    assert scores.dtype == torch.float32
    # Measured worst case 0.002.
    torch.testing.assert_close(scores, logits(loaded(tiny.language_model), both), atol=0.01, rtol=0)


def test_nothing_trains_but_the_rows(folder: Path) -> None:
    model = loaded(folder)
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains == {f"signal_rows.{name}" for name in model.signal_rows}


def test_with_a_cache_a_sequence_in_pieces_equals_the_whole(tiny: TinyParts) -> None:
    from transformers import DynamicCache

    model = loaded(tiny.language_model)
    embeds = model.embed(torch.cat([WORDS, SIGNAL_IDS], dim=1))
    cache = DynamicCache(config=model.llm.config)
    with torch.no_grad():
        pieces = [model(piece, None, cache) for piece in embeds.split([6, 1, 4], dim=1)]
        # Measured worst case 6e-7.
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(embeds), atol=1e-5, rtol=0)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}: neither config.json nor a .gguf"):
        LanguageModel(str(tmp_path))


# LoRA


def test_a_new_adapter_changes_nothing_and_a_trained_one_does(folder: Path) -> None:
    model = loaded(folder)
    before = logits(model, WORDS)
    assert model.lora_parameters() == {}
    model.add_lora()
    assert torch.equal(logits(model, WORDS), before)
    # 2 layers, 2 targets, 2 factors of 4 x 32.
    assert sum(p.numel() for p in model.lora_parameters().values()) == 2 * 2 * 2 * 4 * 32
    train_lora(model)
    assert not torch.allclose(logits(model, WORDS), before, atol=1e-2)


def test_adding_the_adapter_twice_keeps_the_first(tiny: TinyParts) -> None:
    model = loaded(tiny.language_model)
    train_lora(model)
    before = {name: p.clone() for name, p in model.lora_parameters().items()}
    model.add_lora()
    assert before.keys() == model.lora_parameters().keys()
    assert all(torch.equal(p, before[name]) for name, p in model.lora_parameters().items())


def test_a_saved_adapter_gives_the_same_scores(folder: Path, tmp_path: Path) -> None:
    model = loaded(folder)
    train_lora(model)
    model.save_lora(tmp_path / "adapter")
    other = loaded(folder, lora=LoraOptions(rank=2, target_modules=["o_proj"]))
    other.load_lora(tmp_path / "adapter")
    assert torch.equal(logits(other, WORDS), logits(model, WORDS))
    assert other.lora_options == LORA


def test_an_adapter_is_saved_in_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    names = ["v_proj", "q_proj", "o_proj", "k_proj"]
    for number, order in enumerate((names, names[::-1])):
        model = loaded(folder, lora=LoraOptions(rank=2, target_modules=order))
        model.add_lora()
        model.save_lora(tmp_path / str(number))
    first, second = (tmp_path / name / "adapter_config.json" for name in ("0", "1"))
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(first.read_text())["target_modules"] == sorted(names)


def test_a_merged_adapter_scores_alike_is_saved_as_it_was_and_can_be_left_out(
    folder: Path, tmp_path: Path
) -> None:
    model = loaded(folder)
    before = logits(model, WORDS)
    model.add_lora()
    train_lora(model)
    trained = logits(model, WORDS)
    model.save_lora(tmp_path / "before")
    model.merge_lora()
    assert torch.allclose(logits(model, WORDS), trained, atol=1e-4)
    model.save_lora(tmp_path / "after")
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("before", "after")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with model.without_lora():
        assert torch.allclose(logits(model, WORDS), before, atol=1e-4)


def test_peft_reads_a_saved_adapter_without_nextgpt(tiny: TinyParts, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = loaded(tiny.language_model)
    train_lora(model)
    model.save_lora(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny.language_model)
    base = AutoModelForCausalLM.from_pretrained(tiny.language_model, dtype=torch.float32)
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(WORDS).logits
    torch.testing.assert_close(logits(model, WORDS)[..., :300], theirs)


def test_an_adapter_of_another_model_is_refused_by_file_and_key(
    tiny: TinyParts, tmp_path: Path
) -> None:
    deeper = loaded(tiny_language_model(tmp_path / "deeper", num_hidden_layers=3))
    train_lora(deeper)
    deeper.save_lora(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"adapter_model.safetensors .* unexpected: .*layers\.2\."):
        loaded(tiny.language_model).load_lora(tmp_path / "adapter")


# Exact loading

FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda weights: weights.pop("b"), "missing: b"),
    "unexpected": (lambda weights: weights.update(c=torch.ones(1)), "unexpected: c"),
    "misshapen": (
        lambda weights: weights.update(b=torch.ones(3)),
        r"of another shape: b \(3,\) instead of \(2,\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_named_and_nothing_is_copied(fault: str) -> None:
    parameters = {"a": torch.zeros(2), "b": torch.zeros(2)}
    weights = {"a": torch.ones(2), "b": torch.ones(2)}
    change, message = FAULTS[fault]
    change(weights)
    with pytest.raises(ValueError, match=rf"some/file.safetensors does not fit.*{message}"):
        load_exactly(parameters, weights, Path("some/file.safetensors"))
    assert not any(value.any() for value in parameters.values())


def test_every_fault_is_named_at_once() -> None:
    parameters = {name: torch.zeros(2) for name in "abc"}
    weights = {"a": torch.ones(3), "d": torch.ones(2)}
    with pytest.raises(ValueError, match=r"missing: b, c; unexpected: d; of another shape: a"):
        load_exactly(parameters, weights, Path("file"))


def test_weights_that_fit_are_copied_into_the_precision_that_is_there() -> None:
    parameters = {"a": torch.zeros(2)}
    load_exactly(parameters, {"a": torch.tensor([0.5, 2.0]).half()}, Path("file"))
    assert torch.equal(parameters["a"], torch.tensor([0.5, 2.0]))


# At scale


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sequences_in_one_row_are_told_apart(tiny: TinyParts, dtype: str) -> None:
    loaded(tiny.language_model, dtype=dtype).check_packing()


def test_attention_that_mixes_the_sequences_of_a_row_is_refused(tiny: TinyParts) -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("without_masks", sdpa_attention_forward)
    model = loaded(tiny.language_model)
    model.llm.set_attn_implementation("without_masks")
    with pytest.raises(ValueError, match="cannot tell sequences in one row apart.*`pack`"):
        model.check_packing()


def test_checkpointed_activations_give_the_same_gradients_from_a_second_pass(
    tiny: TinyParts,
) -> None:
    gradients, num_passes = [], []
    for checkpoints in (False, True):
        model = loaded(tiny.language_model)
        train_lora(model)
        if checkpoints:
            model.checkpoint_activations()
        passes: list[object] = []
        layer = model.llm.get_decoder().layers[0].mlp
        # The second pass ends inside of it, where nothing more is needed.
        layer.register_forward_pre_hook(lambda *_, passes=passes: passes.append(None))
        for parameter in model.lora_parameters().values():
            parameter.requires_grad_(True)
        model(model.embed(WORDS)).square().sum().backward()
        gradients.append([p.grad for p in model.lora_parameters().values()])
        num_passes.append(len(passes))
    assert num_passes == [1, 2]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_an_unknown_quantization_is_named(tiny: TinyParts) -> None:
    with pytest.raises(ValueError, match="unknown quantization '2bit'; choose 8bit or 4bit"):
        LanguageModel(str(tiny.language_model), quantization="2bit")


@pytest.mark.skipif(CAN_QUANTISE, reason="bitsandbytes and a GPU are here")
def test_quantization_says_what_it_lacks(tiny: TinyParts) -> None:
    with pytest.raises(ValueError, match=r"quantization 4bit needs (bitsandbytes: pip|a CUDA GPU)"):
        LanguageModel(str(tiny.language_model), quantization="4bit")


@pytest.mark.skipif(not CAN_QUANTISE, reason="needs bitsandbytes and a CUDA GPU")
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_a_quantised_model_stays_near_the_exact_one(tiny: TinyParts, kind: str) -> None:
    exact = loaded(tiny.language_model)
    model = LanguageModel(str(tiny.language_model), quantization=kind)
    states = model(model.llm.get_input_embeddings()(WORDS.cuda())).float().cpu()
    expected = exact(exact.embed(WORDS))
    assert (states - expected).norm() < 0.2 * expected.norm()
