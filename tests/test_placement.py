"""Parts compute where they should, one at a time where memory is short, and say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_chain import NUM_SIGNAL_TOKENS, medium, tiny_chain, tiny_chain_config

from nextgpt import Conversation, NextGPT, checkpoint
from nextgpt.cli import main
from nextgpt.decoders import Decoder
from nextgpt.encoders import MicroBindEncoder
from nextgpt.events import Done, MediaStarted, TextDelta
from nextgpt.language_model import LanguageModel
from nextgpt.model import NextGPTModel
from nextgpt.placement import Placement

if TYPE_CHECKING:
    from conftest import TinyParts

ALL = ("encoder", "language_model", "decoders")


@pytest.fixture(scope="module")
def directory(tiny: TinyParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.save(tiny_chain(tiny), folder, tiny_chain_config(tiny), {})
    return folder


def question() -> Conversation:
    return Conversation().user("What is this?", medium("image"))


def answered(model: NextGPT) -> list[Any]:
    """Pixels, samples and words of a reply that holds every medium."""
    reply = model.chat(question(), modalities=list(NUM_SIGNAL_TOKENS), max_new_tokens=4, seed=1)
    assert len(reply.images) == len(reply.audios) == len(reply.videos) == 1
    return [
        part if isinstance(part, str) else (part.modality, part.content_hash())
        for part in reply.parts
    ]


@pytest.mark.parametrize(
    "choice",
    [{"offload": ["decoders"]}, {"offload": ALL}, {"keep_decoders": 1}, {"keep_decoders": 2}],
    ids=str,
)
def test_a_placement_changes_no_bit_of_a_reply(directory: Path, choice: dict[str, Any]) -> None:
    expected = answered(NextGPT.from_pretrained(directory))
    placed = NextGPT.from_pretrained(directory, **choice)
    assert answered(placed) == expected
    assert answered(placed) == expected  # From memory and after parts have come and gone.


@pytest.fixture
def journeys(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Writes down where parts are sent, in their order; here everything stays on the processor."""
    sent: list[tuple[str, str]] = []

    class Device(str):
        """Stands for a device that this machine has not."""

    def wrap(owner: type) -> None:
        original = owner.to

        def to(self: Any, *arguments: Any, **options: Any) -> Any:
            where = str(arguments[0]) if arguments and isinstance(arguments[0], str) else None
            if where is not None and (name := name_of(self)):
                sent.append((name, where))
            here = ("cpu",) if where is not None else arguments
            return original(self, *here, **options)

        monkeypatch.setattr(owner, "to", to)

    def name_of(part: Any) -> str | None:
        if isinstance(part, Decoder):
            return str(part.modality)
        names = {MicroBindEncoder: "encoder", LanguageModel: "language_model"}
        return names.get(type(part))

    wrap(Decoder)
    wrap(torch.nn.Module)
    monkeypatch.setattr("nextgpt.placement.usable_device", Device)
    yield sent


def test_one_offloaded_part_is_on_the_device_at_a_time(
    directory: Path, journeys: list[tuple[str, str]]
) -> None:
    model = NextGPT.from_pretrained(directory, device="far", offload=ALL)
    assert {where for _, where in journeys} == {"cpu"}
    journeys.clear()
    answered(model)
    there: list[str] = []
    visits = []
    for part, where in journeys:
        if where == "far":
            there.append(part)
            visits.append(part)
        else:
            there.remove(part)
        assert len(there) <= 1
    assert visits[:2] == ["encoder", "language_model"]
    assert sorted(visits[2:]) == sorted(NUM_SIGNAL_TOKENS)


def test_what_is_not_offloaded_goes_to_the_device_at_once_and_stays(
    directory: Path, journeys: list[tuple[str, str]]
) -> None:
    model = NextGPT.from_pretrained(directory, device="far", offload=["encoder"])
    assert ("language_model", "far") in journeys and ("image", "far") in journeys
    assert ("encoder", "cpu") in journeys
    journeys.clear()
    answered(model)
    assert journeys == [("encoder", "far"), ("encoder", "cpu")]


def test_decoders_stay_loaded_only_as_many_as_are_kept(directory: Path) -> None:
    model = NextGPT.from_pretrained(directory, keep_decoders=1)
    answered(model)
    loaded = [name for name, each in model.model.decoders.items() if each._components]
    assert len(loaded) == 1
    model = NextGPT.from_pretrained(directory)
    answered(model)
    assert all(each._components for each in model.model.decoders.values())


def test_media_wait_for_the_text_where_parts_share_the_device(directory: Path) -> None:
    model = NextGPT.from_pretrained(directory, offload=["language_model", "decoders"])
    events = list(model.stream(question(), modalities=["image", "audio"], max_new_tokens=4))
    kinds = [type(event) for event in events]
    last = max(n for n, kind in enumerate(kinds) if kind in (TextDelta, MediaStarted))
    assert all(kind in (TextDelta, MediaStarted) for kind in kinds[: last + 1])
    assert kinds[-1] is Done


def test_a_precision_is_that_of_all_frozen_parts(directory: Path) -> None:
    model = NextGPT.from_pretrained(directory, dtype="bfloat16")
    answered(model)
    chain: NextGPTModel = model.model
    assert {p.dtype for p in chain.encoder.parameters()} == {torch.bfloat16}
    assert chain.language_model.llm.dtype == torch.bfloat16
    assert {each.dtype for each in chain.decoders.values()} == {torch.bfloat16}
    assert {p.dtype for p in chain.output_projections.parameters()} == {torch.float32}
    assert chain.language_model.signal_rows["input"].dtype == torch.float32


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"device": "cuda:7"}, "'cuda:7'"),
        ({"device": "toaster"}, "'toaster'"),
        ({"dtype": "int3"}, "'int3'"),
        ({"offload": ["brain"]}, "'brain'"),
        ({"keep_decoders": 0}, "keep_decoders is 0"),
    ],
    ids=str,
)
def test_a_choice_that_cannot_be_is_one_error(
    directory: Path, choice: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        NextGPT.from_pretrained(directory, **choice)


def test_the_terminal_takes_the_same_choices(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["chat", "--model", str(directory), "--once", "Hi", "--modalities", "image"]
    arguments += ["--out", str(tmp_path), "--json", "--offload", "decoders", "--keep-decoders", "1"]
    assert main(arguments) == 0
    assert '"image"' in capsys.readouterr().out
    assert main([*arguments, "--device", "toaster"]) == 1
    assert "toaster" in capsys.readouterr().err


def test_a_placement_of_its_own_is_for_the_processor() -> None:
    placement = Placement()
    assert placement.device == torch.device("cpu") and not placement.is_shared
