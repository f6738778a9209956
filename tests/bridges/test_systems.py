"""Every system of `configs/bridges` on tiny parts: what trains, what it learns, what is kept."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from one_bridge import SYSTEMS, chain_stages, tiny_bridge, tiny_bridge_config
from safetensors.torch import load_file
from tiny_chain import batch_of, medium, tiny_chain, tiny_chain_config

from nextgpt import checkpoint
from nextgpt.batch import ChainBatch
from nextgpt.checkpoint import ANSWERING, projection_state
from nextgpt.generation import NextGPT
from nextgpt.losses import alignment_loss
from nextgpt.media import Image
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel

if TYPE_CHECKING:
    from conftest import TinyParts

UNREAD = re.compile(r"qformer\.model\.encoder\.layer\.1\.(intermediate|output)\.")
"""What the last layer makes of the instruction, which nobody looks at."""


@pytest.fixture(scope="module")
def chains(tiny: TinyParts) -> Iterator[dict[str, NextGPTModel]]:
    """Built once for the tests that change nothing."""
    yield {name: tiny_bridge(name, tiny).eval() for name in SYSTEMS}


def picture(width: int, height: int, seed: int = 0) -> Image:
    """Four fields of random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    rows, columns = (np.arange(length) * 2 // length for length in (height, width))
    return Image(colours[rows][:, columns], caption=f"picture number {seed}")


def conversations() -> list[Conversation]:
    """Pictures and a video in, words and every medium out, and words alone."""
    shown = [picture(64, 64), picture(130, 60, 1), medium("video", 2)]
    talks = [
        Conversation().user("What is this?", each).assistant(f"Number {n}", medium(kind, n))
        for n, (each, kind) in enumerate(zip(shown, ("image", "audio", "video"), strict=True))
    ]
    both = Conversation().user(picture(30, 90, 3), "and", picture(64, 64, 4), "Which?")
    return [*talks, both.assistant("Both."), Conversation().user("Hello").assistant("Hello!")]


def loss_of(chain: NextGPTModel, batch: ChainBatch) -> torch.Tensor:
    output = chain(batch)
    losses = [
        alignment_loss(conditioning, batch.targets[modality])
        for modality, conditioning in output.conditioning.items()
    ]
    return output.cross_entropy + sum(losses)


def with_values(chain: NextGPTModel, batch: ChainBatch, talks: list[Conversation]) -> ChainBatch:
    """What the encoder takes in the place of what it gives, in the same order."""
    shown = [part for talk in talks for m in talk.messages if m.role == "user" for part in m.media]
    for modality in batch.features:
        media = [each for each in shown if each.modality == modality]
        batch.values[modality] = torch.cat([chain.preprocess(each) for each in media])
    batch.features = {}
    return batch


CASES = [(name, stage) for name in SYSTEMS for stage in chain_stages(name)]


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_a_stage_trains_exactly_its_parts_and_learns(
    name: str, stage: str, tiny: TinyParts
) -> None:
    trains = chain_stages(name)[stage]
    chain = tiny_bridge(name, tiny).train()
    chain.set_trainable(trains)
    expected = {id(p) for part in trains for p in chain.trainable_parts()[part].values()}
    parameters = dict(chain.named_parameters())
    assert {id(p) for p in parameters.values() if p.requires_grad} == expected
    before = {key: p.detach().clone() for key, p in parameters.items()}
    batch = batch_of(chain, conversations())
    if "encoder" in trains:
        batch = with_values(chain, batch, conversations())
    optimizer = torch.optim.Adam([p for p in parameters.values() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(chain, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    moved = {key for key, p in parameters.items() if not torch.equal(p, before[key])}
    expected_to_move = {
        key
        for key, p in parameters.items()
        if p.requires_grad and not (name == "instructblip" and UNREAD.search(key))
    }
    assert moved == expected_to_move


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_was_trained_is_saved_and_read_again(
    name: str, tiny: TinyParts, tmp_path: Path
) -> None:
    chain = tiny_bridge(name, tiny)
    for trains in chain_stages(name).values():
        chain.set_trainable(trains)
        with torch.no_grad():
            for part in trains:
                for parameter in chain.trainable_parts()[part].values():
                    # As files hold it, so that what is read is the same.
                    parameter.add_(0.05 * torch.randn_like(parameter)).copy_(parameter.half())
    chain.set_trainable([])
    checkpoint.save(chain, tmp_path / "model", tiny_bridge_config(name, tiny), {})
    again = checkpoint.load(tmp_path / "model")
    batch = batch_of(chain, conversations())
    assert torch.equal(again.eval()(batch).logits, chain.eval()(batch).logits)


@pytest.fixture(scope="module")
def finished(tiny: TinyParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a chain with the bridge of NExT-GPT and an adapter."""
    chain = tiny_chain(tiny)
    parts = ["lora", "input_projection", "output_projections", "signal_rows"]
    chain.set_trainable(parts)
    with torch.no_grad():
        for part in parts:
            for parameter in chain.trainable_parts()[part].values():
                parameter.add_(0.1 * torch.randn_like(parameter)).copy_(parameter.half())
    folder = tmp_path_factory.mktemp("finished") / "model"
    checkpoint.save(chain, folder, tiny_chain_config(tiny), {})
    return folder


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_finished_model_can_be_given_another_bridge(
    name: str, tiny: TinyParts, finished: Path
) -> None:
    chain = tiny_bridge(name, tiny)
    fresh = {key: value.clone() for key, value in chain.state_dict().items()}
    checkpoint.load_trained(chain, finished, new_bridge=True)
    answering = {k: v for k, v in projection_state(chain).items() if k.startswith(ANSWERING)}
    theirs = load_file(finished / "projections.safetensors")
    assert all(torch.equal(value, theirs[key].to(value.dtype)) for key, value in answering.items())
    rows = load_file(finished / "signal_rows.safetensors")
    assert torch.equal(chain.language_model.signal_rows["input"], rows["input"].float())
    assert chain.language_model.lora_parameters()
    kept = [key for key in projection_state(chain) if not key.startswith(ANSWERING)]
    assert kept
    assert all(torch.equal(chain.state_dict()[key], fresh[key]) for key in kept)


@pytest.mark.parametrize("name", SYSTEMS)
def test_reading_piece_by_piece_is_reading_at_once(
    name: str, chains: dict[str, NextGPTModel]
) -> None:
    from transformers import DynamicCache

    chain = copy.deepcopy(chains[name])
    if chain.fusion is not None:
        with torch.no_grad():  # Gates that are shut would hide what is behind them.
            for parameter in chain.fusion.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    talk = Conversation().user(picture(64, 64), "and", picture(130, 60, 1)).assistant("Two.")
    batch = batch_of(chain, [talk])
    embeds, context = chain.assemble(batch)
    with torch.no_grad():
        whole = chain.read(embeds, batch.attention_mask, context)
        cache = DynamicCache(config=chain.language_model.llm.config)
        cuts = [0, 3, embeds.shape[1] // 2, *range(embeds.shape[1] - 3, embeds.shape[1] + 1)]
        pieces = [
            chain.read(embeds[:, start:end], batch.attention_mask[:, :end], context, cache)
            for start, end in zip(cuts, cuts[1:], strict=False)
        ]
    # At worst 2e-6: sums in another order.
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_sees_pictures_and_still_answers_with_every_medium(
    name: str, chains: dict[str, NextGPTModel]
) -> None:
    model = NextGPT(chains[name])
    kinds = ["image", "audio", "video"]
    reply = model.chat(["What is this?", picture(64, 64)], modalities=kinds, max_new_tokens=4)
    assert sorted(medium.modality for medium in reply.media) == sorted(kinds)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_is_shown_changes_what_is_said(name: str, chains: dict[str, NextGPTModel]) -> None:
    chain = copy.deepcopy(chains[name])
    if chain.fusion is not None:
        with torch.no_grad():
            for parameter in chain.fusion.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    talks = [Conversation().user(picture(64, 64, n), "What?").assistant("It.") for n in (0, 1)]
    first, second = (chain(batch_of(chain, [talk])).logits for talk in talks)
    assert (first - second).abs().max() > 1e-5


SIDES = st.one_of(st.integers(1, 40), st.integers(41, 3000))
"""Pixels: as often thin as not."""


@pytest.mark.parametrize("name", SYSTEMS)
@given(sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3))
@example(sizes=[(1, 1)])
@example(sizes=[(1, 3000)])
@example(sizes=[(3000, 100), (640, 480)])
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
def test_tokens_are_as_many_as_counted(
    name: str, chains: dict[str, NextGPTModel], sizes: list[tuple[int, int]]
) -> None:
    chain = chains[name]
    shown = [picture(*size, seed) for seed, size in enumerate(sizes)]
    layouts, lengths = zip(*map(chain.measure, shown), strict=True)
    assert list(lengths) == [chain.num_tokens(Modality.IMAGE, size) for size in sizes]
    features = chain.encode(shown)
    assert [len(each) for each in features] == [layout.num_encoded for layout in layouts]
    num_views = sum(layout.num_views for layout in layouts)
    views = torch.cat(features).reshape(num_views, -1, features[0].shape[-1])
    tokens = chain.input_projection.connect(views, layouts, ["What?"] * len(shown))
    assert len(chain.assembler(tokens, layouts)) == sum(lengths)
    plan = chain.prompter.training_plan(Conversation().user(*shown).assistant("It."))
    alone = chain.prompter.training_plan(Conversation().user("").assistant("It."))
    assert len(plan.input_ids) - len(alone.input_ids) == sum(lengths)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_batch_of_one_equals_a_batch_of_many(name: str, chains: dict[str, NextGPTModel]) -> None:
    chain = chains[name]
    together = chain(batch_of(chain, conversations()))
    alone = [chain(batch_of(chain, [each])) for each in conversations()]
    # At worst 3e-6.
    torch.testing.assert_close(
        torch.cat([each.logits for each in alone]), together.logits, atol=3e-5, rtol=0
    )
