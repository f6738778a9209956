"""The chain: what trains and what does not, one path for all modalities, batching."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from tiny_chain import (
    LORA_RANK,
    NUM_SIGNAL_TOKENS,
    batch_of,
    exchange,
    medium,
    tiny_chain,
    tiny_chain_config,
)
from torch import Tensor

from nextgpt import configuration
from nextgpt.batch import ChainBatch
from nextgpt.encoders import MicroBindEncoder
from nextgpt.language_model import LanguageModel
from nextgpt.losses import alignment_loss, caption_cross_entropy
from nextgpt.messages import Conversation
from nextgpt.modality import MODALITIES, Modality
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

CONFIG = Path(__file__).parent.parent / "configs" / "micro.yaml"
TRAINS = {
    name: stage["model"]["init_args"]["trains"]
    for name, stage in yaml.safe_load(CONFIG.read_text())["stages"].items()
}
PREFIXES = {
    "input_projection": "input_projection.",
    "signal_rows": "language_model.signal_rows.",
    "output_projections": "output_projections.",
    "lora": "language_model.llm.",
}


def projection_size(length: int, width: int) -> int:
    """Parameters of one tiny output projection, by hand: 32 -> 16 wide, 24 inside, 1 + 1 layers."""
    attention = 4 * 16 * 16 + 4 * 16
    feedforward = 2 * 16 * 24 + 16 + 24
    norm = 2 * 16
    encoder = attention + feedforward + 2 * norm
    decoder = 2 * attention + feedforward + 3 * norm
    ends = (32 * 16 + 16) + (16 * width + width)
    return encoder + decoder + 2 * norm + ends + length * 16


SIZES = {
    "input_projection": 16 * 32 + 32,
    "signal_rows": sum(NUM_SIGNAL_TOKENS.values()) * 32,
    "output_projections": projection_size(8, 32) + projection_size(1, 32) + projection_size(8, 32),
    "lora": 2 * 2 * 2 * LORA_RANK * 32,  # layers, targets, factors
}


@pytest.fixture
def chain(tiny: TinyParts) -> NextGPTModel:
    return tiny_chain(tiny)


def step(chain: NextGPTModel, batch: ChainBatch) -> None:
    """One step of training on all losses."""
    # Without weight decay, which would move what has no gradient.
    optimizer = torch.optim.Adam([p for p in chain.parameters() if p.requires_grad], 0.01)
    output = chain.train()(batch)
    loss = caption_cross_entropy(output.logits, output.labels)
    for modality, conditioning in output.conditioning.items():
        loss = loss + alignment_loss(conditioning, batch.targets[modality])
    loss.backward()
    optimizer.step()


def snapshot(chain: NextGPTModel) -> dict[str, Tensor]:
    """Every parameter and buffer, the frozen decoders' included."""
    decoders = {
        f"decoders.{modality}.{component}.{name}": value
        for modality, decoder in chain.decoders.items()
        for component, module in decoder._components.items()
        if isinstance(module, torch.nn.Module)
        for name, value in module.state_dict().items()
    }
    return {name: value.clone() for name, value in (chain.state_dict() | decoders).items()}


# What trains


@pytest.mark.parametrize("stage", TRAINS)
def test_a_shipped_stage_trains_exactly_its_parts(chain: NextGPTModel, stage: str) -> None:
    chain.set_trainable(TRAINS[stage])
    trainable = {name: p for name, p in chain.named_parameters() if p.requires_grad}
    for part, prefix in PREFIXES.items():
        ours = {name: p for name, p in trainable.items() if name.startswith(prefix)}
        expected = SIZES[part] if part in TRAINS[stage] else 0
        assert sum(p.numel() for p in ours.values()) == expected, part
        assert all(".lora_" in name for name in ours) or part != "lora"
    assert sum(p.numel() for p in trainable.values()) == sum(SIZES[p] for p in TRAINS[stage])


def test_the_shipped_stages_train_every_part_between_them() -> None:
    assert {part for parts in TRAINS.values() for part in parts} == set(SIZES)


@pytest.mark.parametrize("stage", TRAINS)
def test_a_step_leaves_frozen_tensors_bit_identical(chain: NextGPTModel, stage: str) -> None:
    chain.set_trainable(TRAINS[stage])
    batch = batch_of(chain, [exchange(m, seed) for m in Modality for seed in (0, 1)])
    before = snapshot(chain)
    assert any(name.startswith("decoders.") for name in before)
    step(chain, batch)
    changed = {n for n, value in snapshot(chain).items() if not torch.equal(value, before[n])}
    trainable = {name for name, p in chain.named_parameters() if p.requires_grad}
    if "output_projections" in TRAINS[stage]:
        trainable |= {name for name, _ in chain.named_buffers() if ".standardise." in name}
    assert changed <= trainable
    # The first factor of LoRA has no gradient while the second is zero.
    assert {name for name in trainable - changed if ".lora_A." not in name} == set()


def test_a_part_that_was_trained_is_frozen_by_the_next_stage(chain: NextGPTModel) -> None:
    chain.set_trainable(list(SIZES))
    chain.set_trainable(["input_projection"])
    assert {name for name, p in chain.named_parameters() if p.requires_grad} == {
        "input_projection.linear.weight",
        "input_projection.linear.bias",
    }


def test_nothing_trains_unless_it_is_said(chain: NextGPTModel) -> None:
    assert not [name for name, p in chain.named_parameters() if p.requires_grad]


def test_an_unknown_part_is_named_beside_the_known_ones(chain: NextGPTModel) -> None:
    with pytest.raises(ValueError, match=r"cannot train decoders; .* are input_projection.*lora"):
        chain.set_trainable(["lora", "decoders"])
    assert chain.language_model.lora_parameters() == {}


# One path for all modalities


@pytest.mark.parametrize("modality", list(Modality))
def test_every_modality_passes_in_and_out(chain: NextGPTModel, modality: Modality) -> None:
    batch = batch_of(chain, [exchange(modality), exchange(modality, 2)])
    output = chain.eval()(batch)
    vocabulary = chain.language_model.vocabulary_size + len(chain.language_model.signals)
    assert output.logits.shape == (len(output.labels), vocabulary)
    assert output.logits.isfinite().all()
    assert set(output.conditioning) == set(MODALITIES)
    for other, conditioning in output.conditioning.items():
        num_runs = 2 if other == modality else 0
        assert conditioning.shape == (num_runs, *chain.decoders[other].conditioning_shape)
    if modality == Modality.TEXT:
        return
    first = chain.language_model.signals.run(modality)[0]
    assert int((output.labels == first).sum()) == 2


def test_features_stand_in_their_slots_and_words_everywhere_else(chain: NextGPTModel) -> None:
    batch = batch_of(chain, [exchange(modality, seed=1) for modality in MODALITIES])
    expected = chain.language_model.embed(batch.input_ids).clone()
    for modality, features in batch.features.items():
        ((row, start),) = batch.slots[modality].tolist()
        expected[row, start] = chain.input_projection(features)[0, 0]
    torch.testing.assert_close(chain.assemble(batch).embeds, expected)
    assert len(batch.features) == len(MODALITIES)


def test_a_mixed_batch_equals_its_conversations_alone(chain: NextGPTModel) -> None:
    chain.eval()
    conversations = [exchange(m, seed) for seed in (0, 3) for m in Modality]
    together = chain(batch_of(chain, conversations))
    alone = [chain(batch_of(chain, [each])) for each in conversations]
    # Padding, neighbours and order change nothing. Measured worst case 4e-7.
    options = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(together.logits, torch.cat([o.logits for o in alone]), **options)
    assert torch.equal(together.labels, torch.cat([o.labels for o in alone]))
    for modality in MODALITIES:
        rows = [o.conditioning[modality] for o in alone]
        torch.testing.assert_close(together.conditioning[modality], torch.cat(rows), **options)


def test_conversations_that_share_rows_equal_those_with_a_row_each(chain: NextGPTModel) -> None:
    chain.set_trainable(list(SIZES))
    conversations = [exchange(m, seed) for seed in (9, 0, 3) for m in Modality]
    outcomes = []
    for pack in (False, True):
        batch = batch_of(chain, conversations, pack)
        assert (len(batch.input_ids) < len(conversations)) == pack
        output = chain.eval()(batch)
        alignment = [alignment_loss(c, batch.targets[m]) for m, c in output.conditioning.items()]
        losses = torch.stack([output.cross_entropy, *alignment])
        trainable = [p for p in chain.parameters() if p.requires_grad]
        outcomes.append((losses, torch.autograd.grad(losses.sum(), trainable)))
    # Measured worst case 1e-6 of gradients up to 2.
    torch.testing.assert_close(outcomes[0], outcomes[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", list(Modality))
def test_every_trainable_part_has_a_gradient_whatever_a_batch_holds(
    chain: NextGPTModel, modality: Modality
) -> None:
    chain.set_trainable(list(SIZES))
    output = chain(batch_of(chain, [exchange(modality)]))
    (output.cross_entropy + sum(c.sum() for c in output.conditioning.values())).backward()
    assert not [n for n, p in chain.named_parameters() if p.requires_grad and p.grad is None]


# What does not fit


@pytest.mark.parametrize("count", [2, 3])
def test_more_features_than_places_are_refused_with_both_numbers(
    chain: NextGPTModel, count: int
) -> None:
    batch = batch_of(chain, [exchange("audio")])
    batch.features[Modality.AUDIO] = batch.features[Modality.AUDIO].repeat(1, count, 1)
    with pytest.raises(ValueError, match=f"{count} features of 1 audio for 1 places"):
        chain(batch)


def test_decoders_and_signal_tokens_must_name_the_same_modalities(tiny: TinyParts) -> None:
    config = tiny_chain_config(tiny)
    del config["num_signal_tokens"]["audio"]
    with pytest.raises(ValueError, match=r"decoders are given for .*audio.* but num_signal_tokens"):
        configuration.build(config)


def test_a_medium_that_the_encoder_does_not_read_is_named(tiny: TinyParts) -> None:
    encoder = MicroBindEncoder(str(tiny.encoder), trunk=str(tiny.trunk))
    encoder.modalities = (Modality.IMAGE, Modality.AUDIO)
    language_model = LanguageModel(str(tiny.language_model), max_length=512)
    chain = NextGPTModel(language_model, encoder, {}, {})
    with pytest.raises(ValueError, match="does not read video; it reads image, audio"):
        chain.prompter.training_plan(Conversation().user(medium("video")).assistant("A video."))
