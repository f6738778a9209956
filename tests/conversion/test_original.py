"""The original's files: every tensor finds its place, or the file is refused in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from original_files import (
    CONDITIONING,
    PREFIXES,
    SIZES,
    language_weights,
    mappers,
    original_language_model,
    original_weights,
    plain_chain,
    write_config,
    write_file,
)
from safetensors.torch import load_file
from tiny_parts import tiny_language_model
from torch import Tensor

from nextgpt.cli import main
from nextgpt.conversion import convert_checkpoint
from nextgpt.conversion.original import ADDED_TOKENS, NUM_SIGNAL_TOKENS
from nextgpt.modality import Modality
from nextgpt.projections import OutputProjection

WIDTH, VOCABULARY_SIZE = 32, 300
EMBEDDINGS = "llama_model.base_model.model.model.embed_tokens.weight"
HEAD = "llama_model.base_model.model.lm_head.weight"
LORA = "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with an output table of its own."""
    return tiny_language_model(tmp_path_factory.mktemp("base"), tie_word_embeddings=False)


@pytest.fixture(scope="module")
def weights(base: Path) -> dict[str, Tensor]:
    return original_weights(base)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "chain.yaml", plain_chain())


@pytest.fixture
def convert(tmp_path: Path, config: Path, base: Path) -> Callable[..., Path]:
    """Convert some weights, or a file, to a directory."""

    def run(source: dict[str, Tensor] | Path) -> Path:
        is_file = isinstance(source, Path)
        file = source if is_file else write_file(source, tmp_path / "pytorch_model.pt")
        convert_checkpoint(file, tmp_path / "out", config, str(base))
        return tmp_path / "out"

    return run


# What goes where


def test_a_converted_projection_gives_what_the_original_gives(
    convert: Callable[..., Path], weights: dict[str, Tensor]
) -> None:
    projections = load_file(convert(weights) / "projections.safetensors")
    generator = torch.Generator().manual_seed(0)
    for modality, original in mappers(WIDTH).items():
        count = NUM_SIGNAL_TOKENS[modality]
        ours = OutputProjection(WIDTH, count, CONDITIONING[modality], **SIZES).eval()
        prefix = f"output_projections.{modality}."
        ours.load_state_dict(
            {k.removeprefix(prefix): v for k, v in projections.items() if k.startswith(prefix)}
        )
        states, embeds = 3 * torch.randn(2, 5, count, WIDTH, generator=generator)
        with torch.no_grad():
            expected = original(states, embeds)
            # Measured worst case 0 of 4.
            torch.testing.assert_close(ours(states, embeds), expected, atol=1e-5, rtol=0)


def test_rows_of_added_tokens_are_kept_in_our_order(
    convert: Callable[..., Path], weights: dict[str, Tensor]
) -> None:
    rows = load_file(convert(weights) / "signal_rows.safetensors")
    # The original's: <Img>, </Img>, [IMG0..3], [VID0..23], [AUD0..7].
    theirs = [*range(2, 6), *range(30, 38), *range(6, 30), 0, 1]
    for name, key in (("input", EMBEDDINGS), ("output", HEAD)):
        expected = weights[key][[VOCABULARY_SIZE + row for row in theirs]].half()
        assert torch.equal(rows[name], expected)
    assert len(ADDED_TOKENS) == 38


def test_the_directory_asks_for_the_prompts_that_the_weights_were_trained_on(
    convert: Callable[..., Path], weights: dict[str, Tensor], base: Path
) -> None:
    out = convert(weights)
    chain = yaml.safe_load((out / "config.yaml").read_text())["chain"]
    language_model = chain["language_model"]
    assert language_model["template"] == "vicuna_v0"
    assert (out / language_model["source"]).resolve() == base
    assert language_model["lora"]["rank"] == 4
    assert language_model["lora"]["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert chain["num_signal_tokens"] == {"image": 4, "video": 24, "audio": 8}
    assert chain["encoder"]["init_args"]["source"] == "../encoder"


def test_the_adapter_is_one_that_peft_reads(
    convert: Callable[..., Path], weights: dict[str, Tensor], base: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    llm = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(llm, convert(weights) / "adapter")
    assert model.peft_config["default"].lora_alpha == 8
    factors = {k: v for k, v in model.named_parameters() if "lora_" in k}
    assert factors.keys() == {
        key.removeprefix("llama_model.") for key in weights if ".lora_" in key
    }
    for name, value in factors.items():
        assert torch.equal(value, weights[f"llama_model.{name}"].half().float())


def test_the_report_names_every_key_and_the_drift(
    tmp_path: Path, config: Path, base: Path, weights: dict[str, Tensor]
) -> None:
    moved = dict(weights)
    moved[HEAD] = weights[HEAD].clone()
    moved[HEAD][:VOCABULARY_SIZE] *= 1.25  # float16 holds a quarter more but for its last bit
    file = write_file(moved, tmp_path / "pytorch_model.pt")
    report = convert_checkpoint(file, tmp_path / "out", config, str(base))
    assert report.keys == set(weights)
    text = (tmp_path / "out" / "conversion.md").read_text()
    for key in weights:
        assert f"| `{key}` | {' x '.join(map(str, weights[key].shape))} | float16 | " in text
    # Measured 2e-4, 0.25007.
    assert report.drift["input"]["whole"] < 1e-3
    assert report.drift["output"]["whole"] == pytest.approx(0.25, abs=1e-3)
    assert report.drift["output"]["most"] == pytest.approx(0.25, abs=2e-3)
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["converted_from"]["drift"] == report.drift
    assert len(record["converted_from"]["sha256"]) == 64


def test_without_a_base_the_vocabulary_is_that_of_vicuna(tmp_path: Path, config: Path) -> None:
    weights = {
        "llama_model.model.embed_tokens.weight": torch.randn(32_038, 4),
        "llama_model.lm_head.weight": torch.randn(32_038, 4),
        "llama_proj.weight": torch.randn(4, 6),
        "llama_proj.bias": torch.randn(4),
    }
    file = write_file(weights, tmp_path / "pytorch_model.pt")
    report = convert_checkpoint(file, tmp_path / "out", config)
    assert any("put Vicuna-7B v0 " in note for note in report.notes)
    chain = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["chain"]
    assert chain["language_model"]["source"] == "./vicuna-7b-v0"


def test_a_base_may_have_one_row_for_padding_as_vicuna_v0_has(
    tmp_path: Path, config: Path, weights: dict[str, Tensor]
) -> None:
    options = {"tie_word_embeddings": False, "vocab_size": VOCABULARY_SIZE + 1}
    padded = tiny_language_model(tmp_path / "padded", **options)
    file = write_file(weights, tmp_path / "pytorch_model.pt")
    convert_checkpoint(file, tmp_path / "out", config, str(padded))
    rows = load_file(tmp_path / "out" / "signal_rows.safetensors")["input"]
    assert torch.equal(rows[-2:], weights[EMBEDDINGS][VOCABULARY_SIZE : VOCABULARY_SIZE + 2].half())
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["language_model"]["vocabulary_size"] == VOCABULARY_SIZE + 1


# Files of one stage


def test_a_file_of_the_first_stage_becomes_a_model_that_answers_in_text(
    convert: Callable[..., Path], base: Path, weights: dict[str, Tensor]
) -> None:
    stage = language_weights(original_language_model(base), stage=1)
    stage |= {key: value for key, value in weights.items() if key.startswith("llama_proj.")}
    assert "llama_model.model.embed_tokens.weight" in stage
    out = convert(stage)
    chain = yaml.safe_load((out / "config.yaml").read_text())["chain"]
    assert chain["num_signal_tokens"] == chain["decoders"] == {}
    projections = load_file(out / "projections.safetensors")
    assert set(projections) == {"input_projection.linear.weight", "input_projection.linear.bias"}
    rows = load_file(out / "signal_rows.safetensors")["input"]
    markers = stage["llama_model.model.embed_tokens.weight"][VOCABULARY_SIZE:][:2]
    assert torch.equal(rows, markers.half())
    assert not (out / "adapter").exists()


def test_a_file_of_the_second_stage_gets_a_new_input_projection(
    convert: Callable[..., Path], base: Path, weights: dict[str, Tensor]
) -> None:
    stage = language_weights(original_language_model(base), stage=2)
    stage |= {key: value for key, value in weights.items() if key.startswith("gen_text_")}
    out = convert(stage)
    projections = load_file(out / "projections.safetensors")
    assert projections["input_projection.linear.weight"].shape == (WIDTH, 1024)
    assert "no input projection" in (out / "conversion.md").read_text()
    assert {key.split(".")[1] for key in projections} == {"linear", "image", "audio", "video"}


# What is refused


class Dangerous:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def bad_file(kind: str, file: Path, weights: dict[str, Tensor]) -> None:
    if kind == "cut off":
        file.write_bytes(write_file(weights, file).read_bytes()[:-2000])
    elif kind == "cut off, old format":
        write_file(weights, file, _use_new_zipfile_serialization=False)
        file.write_bytes(file.read_bytes()[:5000])
    elif kind == "code":
        torch.save({"llama_proj.weight": Dangerous()}, file)
    elif kind == "code, old format":
        file.write_bytes(pickle.dumps(Dangerous()))
    elif kind == "a list":
        torch.save([torch.ones(1)], file)
    elif kind == "a number":
        torch.save({"llama_proj.weight": 1}, file)
    elif kind == "text":
        file.write_text("version https://git-lfs.github.com/spec/v1")
    elif kind == "claims too much":
        torch.save({"llama_proj.weight": torch.ones(1).expand(10**6, 10**6)}, file)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("cut off", "cannot be read"),
        ("cut off, old format", "cannot be read"),
        ("code", r"holds code or objects \(\S+\)"),
        ("code, old format", "so it was not loaded"),
        ("a list", "holds a list, not tensors by name"),
        ("a number", "'llama_proj.weight' is a int"),
        ("text", "pytorch_model.pt"),
        ("claims too much", "llama_proj.weight claims to be larger"),
        ("absent", "there is no file"),
    ],
)
def test_a_bad_file_is_one_line_and_nothing_is_run_or_written(
    kind: str,
    named: str,
    tmp_path: Path,
    config: Path,
    weights: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    bad_file(kind, tmp_path / "pytorch_model.pt", weights)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=named) as caught:
        convert_checkpoint(tmp_path / "pytorch_model.pt", tmp_path / "out", config)
    assert str(tmp_path / "pytorch_model.pt") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "rows of another model": (
        lambda w: w.update({EMBEDDINGS: torch.zeros(342, WIDTH)}),
        rf"{EMBEDDINGS} is 342 x 32 instead of 338 x 32",
    ),
    "no table": (lambda w: w.pop(HEAD), "does not hold one table .*lm_head.weight"),
    "no factor": (lambda w: w.pop(LORA), "missing: .*layers.1.self_attn.v_proj.lora_B"),
    "two ranks": (lambda w: w.update({LORA: torch.zeros(32, 3)}), r"several ranks, \[3, 4\]"),
    "no norm": (
        lambda w: w.pop("gen_text_hidden_fcs_audio.0.tfm.decoder.norm.weight"),
        "missing: gen_text_hidden_fcs_audio.0.tfm.decoder.norm.weight",
    ),
    "no queries": (
        lambda w: w.pop("gen_text_hidden_fcs.0.query_embs"),
        "missing: gen_text_hidden_fcs.0.query_embs",
    ),
    "one layer more": (
        lambda w: w.update({f"{PREFIXES[Modality.IMAGE]}tfm.x": torch.zeros(1)}),
        "unexpected: gen_text_hidden_fcs.0.tfm.x",
    ),
    "misshapen": (
        lambda w: w.update({"gen_text_hidden_fcs.0.fc.weight": torch.zeros(16, 31)}),
        r"gen_text_hidden_fcs.0.fc.weight \(16, 31\) instead of \(16, 32\)",
    ),
    "stranger": (lambda w: w.update({"visual.x": torch.zeros(1)}), "1 keys .*: visual.x;"),
    "overflow": (
        lambda w: w.update({"llama_proj.bias": torch.full((WIDTH,), 1e6)}),
        "llama_proj.bias holds numbers that are not finite",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_named_and_nothing_is_written(
    fault: str, convert: Callable[..., Path], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    change, message = FAULTS[fault]
    faulty = dict(weights)
    change(faulty)
    with pytest.raises(ValueError, match=message):
        convert(faulty)
    assert not (tmp_path / "out").exists()


def test_a_base_of_another_width_is_refused_with_both_numbers(
    tmp_path: Path, config: Path, weights: dict[str, Tensor]
) -> None:
    wider = tiny_language_model(tmp_path / "wider", hidden_size=48)
    file = write_file(weights, tmp_path / "pytorch_model.pt")
    with pytest.raises(ValueError, match="is 338 x 32 instead of 338 x 48"):
        convert_checkpoint(file, tmp_path / "out", config, str(wider))


def test_a_chain_without_a_decoder_for_a_projection_is_refused_by_its_name(
    tmp_path: Path, base: Path, weights: dict[str, Tensor]
) -> None:
    chain = plain_chain()
    del chain["decoders"]["video"]
    config = write_config(tmp_path / "chain.yaml", chain)
    file = write_file(weights, tmp_path / "pytorch_model.pt")
    with pytest.raises(ValueError, match=r"chain\.yaml: there is no decoder for video"):
        convert_checkpoint(file, tmp_path / "out", config, str(base))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["- a list", "chain: {encoder: {}}", "model: [unclosed"])
def test_a_configuration_without_a_chain_is_named(
    content: str, tmp_path: Path, config: Path, weights: dict[str, Tensor]
) -> None:
    config.write_text(content)
    file = write_file(weights, tmp_path / "pytorch_model.pt")
    with pytest.raises(ValueError, match=f"{config}"):
        convert_checkpoint(file, tmp_path / "out", config)


def test_a_directory_that_holds_something_is_left_alone(
    convert: Callable[..., Path], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out exists already"):
        convert(weights)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


# The command


def test_the_command_prints_where_every_key_went(
    tmp_path: Path,
    config: Path,
    base: Path,
    weights: dict[str, Tensor],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    file = str(write_file(weights, tmp_path / "pytorch_model.pt"))
    out = str(tmp_path / "out")
    arguments = ["convert", "checkpoint", file, "--out", out]
    assert main([*arguments, "--base", str(base), "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert "gen_text_hidden_fcs.0.tfm.encoder.layers.*.norm1.weight" in printed
    assert "signal_rows.safetensors: input, 38 of 338 rows" in printed
    assert main([*arguments, "--config", str(config)]) == 1
    assert "exists already" in capsys.readouterr().err
