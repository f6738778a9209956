"""A checkpoint directory: the same model comes back, from any place, whole or not at all."""

from __future__ import annotations

import copy
import errno
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_chain import LORA_RANK, batch_of, exchange, tiny_chain, tiny_chain_config
from tiny_parts import tiny_language_model

from nextgpt import checkpoint, configuration
from nextgpt.language_model import LanguageModel
from nextgpt.modality import Modality
from nextgpt.model import ChainOutput, NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

LARGE = 1e6
"""Beyond the range of float16."""


def trained(tiny: TinyParts, seed: int) -> NextGPTModel:
    """A chain whose trained parts are random values that float16 holds exactly."""
    chain = tiny_chain(tiny)
    parts = ["lora", "input_projection", "output_projections", "signal_rows"]
    chain.set_trainable(parts)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in parts:
            for parameter in chain.trainable_parts()[part].values():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise).copy_(parameter.half())
        for projection in chain.output_projections.values():
            projection.standardise.mean.add_(LARGE * (1 + seed))
            projection.standardise.variance.mul_(LARGE**2)
    return chain


@torch.no_grad()
def outputs(chain: NextGPTModel) -> ChainOutput:
    return chain.eval()(batch_of(chain, [exchange(modality) for modality in Modality]))


def are_equal(one: ChainOutput, other: ChainOutput) -> bool:
    assert one.conditioning.keys() == other.conditioning.keys()
    pairs = [(one.logits, other.logits)]
    pairs += [(value, other.conditioning[name]) for name, value in one.conditioning.items()]
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden files included."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def first(tiny: TinyParts) -> NextGPTModel:
    return trained(tiny, 1)


@pytest.fixture(scope="module")
def second(tiny: TinyParts) -> NextGPTModel:
    return trained(tiny, 2)


@pytest.fixture
def saved(tiny: TinyParts, first: NextGPTModel, tmp_path: Path) -> Path:
    """The directory of the first chain."""
    checkpoint.save(first, tmp_path / "model", tiny_chain_config(tiny), {"steps": 3})
    return tmp_path / "model"


# There and back


def test_a_saved_chain_comes_back_bit_for_bit(first: NextGPTModel, saved: Path) -> None:
    again = checkpoint.load(saved)
    assert are_equal(outputs(first), outputs(again))
    assert again.language_model.lora_options.rank == LORA_RANK
    assert not [name for name, p in again.named_parameters() if p.requires_grad]


def test_statistics_beyond_float16_survive(first: NextGPTModel, saved: Path) -> None:
    again = checkpoint.load(saved)
    for modality, projection in first.output_projections.items():
        theirs = again.output_projections[modality].standardise
        for name, value in projection.standardise.named_buffers():
            assert torch.equal(value, theirs.get_buffer(name))
        assert theirs.mean.min() > torch.finfo(torch.float16).max
        assert theirs.variance.isfinite().all()


def test_loading_into_a_chain_replaces_all_that_was_trained(
    first: NextGPTModel, tiny: TinyParts, saved: Path
) -> None:
    other = trained(tiny, 3)
    assert not are_equal(outputs(first), outputs(other))
    checkpoint.load_trained(other, saved)
    assert are_equal(outputs(first), outputs(other))


def test_a_chain_may_have_decoders_that_its_checkpoint_has_not(
    tiny: TinyParts, tmp_path: Path
) -> None:
    config = tiny_chain_config(tiny)
    for key in ("decoders", "num_signal_tokens"):
        config[key] = {"audio": config[key]["audio"]}
    small = configuration.build(config)
    small.set_trainable(["signal_rows", "output_projections"])
    with torch.no_grad():
        for part in ("signal_rows", "output_projections", "input_projection"):
            for parameter in small.trainable_parts()[part].values():
                parameter.copy_(torch.randn(parameter.shape).half())
    checkpoint.save(small, tmp_path / "small", config, {})
    whole = tiny_chain(tiny)
    fresh = {name: value.clone() for name, value in whole.state_dict().items()}
    with pytest.raises(ValueError, match=r"missing: output_projections\.image"):
        checkpoint.load_trained(whole, tmp_path / "small")
    checkpoint.load_trained(whole, tmp_path / "small", grow=True)
    for name, value in whole.state_dict().items():
        if name.startswith(("output_projections.audio.", "input_projection.")):
            assert torch.equal(value, small.state_dict()[name]), name
        elif name.startswith("output_projections."):
            assert torch.equal(value, fresh[name]), name
    rows = whole.language_model.signal_rows["input"]
    start = (
        whole.language_model.signals.run(Modality.AUDIO)[0] - whole.language_model.vocabulary_size
    )
    heard = slice(start, start + len(small.language_model.signals))
    assert torch.equal(rows[heard], small.language_model.signal_rows["input"])
    others = torch.ones(len(rows), dtype=torch.bool)
    others[heard] = False
    assert torch.equal(rows[others], fresh["language_model.signal_rows.input"][others])


def test_saving_again_replaces_every_file(
    second: NextGPTModel, tiny: TinyParts, saved: Path
) -> None:
    names = set(files(saved))
    checkpoint.save(second, saved, tiny_chain_config(tiny), {})
    assert set(files(saved)) == names
    assert are_equal(outputs(second), outputs(checkpoint.load(saved)))


def test_a_chain_without_an_adapter_removes_that_of_an_earlier_checkpoint(
    tiny: TinyParts, saved: Path
) -> None:
    plain = tiny_chain(tiny)
    checkpoint.save(plain, saved, tiny_chain_config(tiny), {})
    assert not (saved / "adapter").exists()
    assert checkpoint.load(saved).language_model.lora_parameters() == {}


def test_other_files_of_the_directory_are_left_alone(
    tiny: TinyParts, second: NextGPTModel, saved: Path
) -> None:
    (saved / "image").mkdir()
    (saved / "image" / "model_index.json").write_text("{}")
    checkpoint.save(second, saved, tiny_chain_config(tiny), {})
    assert (saved / "image" / "model_index.json").read_text() == "{}"


# Merging


@torch.no_grad()
def test_a_merged_language_model_scores_as_the_chain_does_without_nextgpt(
    first: NextGPTModel, saved: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint.merge(saved, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    signals = first.language_model.signals
    signal_ids = tokenizer.convert_tokens_to_ids(signals.names)
    assert signal_ids == [i for modality in signals.modalities for i in signals.run(modality)]
    assert tokenizer.encode("".join(signals.names)) == signal_ids
    input_ids = torch.tensor([[5, 250, 299, *signal_ids, 17]])
    ours = first.language_model.logits(first.language_model(first.language_model.embed(input_ids)))
    # Measured worst case 2e-6.
    torch.testing.assert_close(model(input_ids).logits, ours, atol=1e-4, rtol=0)
    assert model.config.tie_word_embeddings


def test_merging_refuses_another_base_model(saved: Path, tmp_path: Path) -> None:
    tiny_language_model(saved.parent / "wider", hidden_size=48)
    config = yaml.safe_load((saved / "config.yaml").read_text())
    config["chain"]["language_model"]["source"] = "../wider"
    (saved / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="hidden_size 32, this one has 48"):
        checkpoint.merge(saved, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


# Sources


def test_a_checkpoint_moves_together_with_its_parts(
    tiny: TinyParts, first: NextGPTModel, tmp_path: Path
) -> None:
    root = Path(tiny.language_model).parent
    shutil.copytree(root, tmp_path / "here" / "parts")
    old, new = str(root), str(tmp_path / "here" / "parts")
    moved = type(tiny)(**{k: Path(str(v).replace(old, new)) for k, v in asdict(tiny).items()})
    config = tiny_chain_config(moved)
    before = copy.deepcopy(config)
    configuration.build(config)
    assert config == before
    checkpoint.save(first, tmp_path / "here" / "model", config, {})
    written = (tmp_path / "here" / "model" / "config.yaml").read_text()
    assert str(tmp_path) not in written
    chain = yaml.safe_load(written)["chain"]
    assert chain["language_model"]["source"] == "../parts/language_model"
    (tmp_path / "here").rename(tmp_path / "there")
    assert are_equal(outputs(first), outputs(checkpoint.load(tmp_path / "there" / "model")))


def test_only_local_sources_are_anchored_and_made_relative(tmp_path: Path) -> None:
    other = {"trunk": "pypi:package==1#sha256=0", "name": "./x", "start_from": None}
    config = {"source": "./encoder", "nested": [{"source": "../image", **other}]}
    anchored = configuration.anchored(config, tmp_path / "model")
    assert anchored == {
        "source": str(tmp_path / "model" / "encoder"),
        "nested": [{"source": str(tmp_path / "image"), **other}],
    }
    assert configuration.relative(anchored, tmp_path / "model") == config


# What does not fit


def test_another_base_model_is_refused_by_file_and_number(saved: Path) -> None:
    tiny_language_model(saved.parent / "wider", hidden_size=48)
    config = yaml.safe_load((saved / "config.yaml").read_text())
    config["chain"]["language_model"]["source"] = "../wider"
    (saved / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=r"provenance.json: .* hidden_size 32, this one has 48"):
        checkpoint.load(saved)


def test_fewer_signal_rows_are_refused_with_both_shapes(saved: Path) -> None:
    file = saved / "signal_rows.safetensors"
    save_file({"input": load_file(file)["input"][:-1].clone()}, file)
    with pytest.raises(ValueError, match=rf"{file} .* input \(8, 32\) instead of \(9, 32\)"):
        checkpoint.load(saved)


# A disk that fills up


def fail_at_write(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the write of the given number fail as on a full disk, after half of it."""
    real = checkpoint.save_file
    written: list[Path] = []

    def write(tensors: Any, file: Path) -> None:
        real(tensors, file)
        written.append(file)
        if len(written) == number:
            file.write_bytes(file.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", write)


def fail_at_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: LanguageModel, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LanguageModel, "save_lora", write)


@pytest.mark.parametrize("place", ["projections", "signal rows", "adapter", "provenance"])
def test_a_failed_save_leaves_the_earlier_checkpoint_and_nothing_else(
    tiny: TinyParts,
    first: NextGPTModel,
    second: NextGPTModel,
    saved: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = files(saved)
    provenance: dict[str, Any] = {}
    if place == "adapter":
        fail_at_adapter(monkeypatch)
    elif place == "provenance":
        provenance = {"metrics": object()}  # no JSON
    else:
        fail_at_write({"projections": 1, "signal rows": 2}[place], monkeypatch)
    with pytest.raises((OSError, TypeError)):
        checkpoint.save(second, saved, tiny_chain_config(tiny), provenance)
    assert files(saved) == before
    assert are_equal(outputs(first), outputs(checkpoint.load(saved)))
