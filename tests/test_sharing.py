"""Models are written and uploaded with the parts that belong to them, and come back the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from hub import COMMIT, Hub, local_hub
from tiny_chain import tiny_chain_config

from nextgpt import NextGPT, checkpoint, configuration

if TYPE_CHECKING:
    from conftest import TinyParts

QUESTION = "Draw a dog, please."


@pytest.fixture(scope="module")
def home(tiny: TinyParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with an adapter that holds all its parts."""
    folder = tmp_path_factory.mktemp("home") / "model"
    root = Path(tiny.language_model).parent
    shutil.copytree(root, folder / "parts")
    places = {name: folder / "parts" / path.name for name, path in asdict(tiny).items()}
    config = tiny_chain_config(type(tiny)(**places))
    chain = configuration.build(config)
    chain.set_trainable(["lora", "signal_rows"])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in ("lora", "signal_rows"):
            for parameter in chain.trainable_parts()[part].values():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    checkpoint.save(chain, folder, config, {"steps": 7})
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA small model.\n")
    return folder


@pytest.fixture(scope="module")
def model(home: Path) -> NextGPT:
    return NextGPT.from_pretrained(home)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with local_hub(tmp_path / "fetched") as hub:
        yield hub


def answer(model: NextGPT) -> list[object]:
    """What a model writes, its conditioning included."""
    from nextgpt import Conversation

    conversation = Conversation().user(QUESTION)
    pieces = model.write([conversation], modalities=["image"], max_new_tokens=8)
    return [
        piece if isinstance(piece, str) else piece.conditioning.flatten().tolist()
        for _, piece in pieces
    ]


def test_a_written_model_holds_its_parts_and_answers_alike(
    model: NextGPT, home: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "copy")
    names = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
    copied = {
        str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*") if p.is_file()
    }
    assert copied == names
    written = (tmp_path / "copy" / "config.yaml").read_text()
    assert yaml.safe_load(written) == yaml.safe_load((home / "config.yaml").read_text())
    again = NextGPT.from_pretrained(tmp_path / "copy")
    assert answer(again) == answer(model)


def test_what_changed_since_loading_is_written(home: Path, tmp_path: Path) -> None:
    model = NextGPT.from_pretrained(home)
    with torch.no_grad():
        model.model.language_model.signal_rows["input"].fill_(0.5)
    model.save_pretrained(tmp_path / "copy")
    rows = checkpoint.load(tmp_path / "copy").language_model.signal_rows["input"]
    assert torch.equal(rows, torch.full_like(rows, 0.5))


def test_an_uploaded_model_comes_back_by_its_commit(model: NextGPT, home: Path, hub: Hub) -> None:
    source = model.push_to_hub("me/small", private=True)
    assert source == f"hf:me/small@{COMMIT}"
    assert hub.private == {"me/small": True}
    uploaded = hub.files["me/small"]
    assert {"config.yaml", "provenance.json", "README.md"} < set(uploaded)
    assert str(home.parent).encode() not in uploaded["config.yaml"]
    assert answer(NextGPT.from_pretrained(source)) == answer(model)


def test_a_part_that_only_this_machine_has_is_named_before_anything_is_sent(
    tiny: TinyParts, home: Path, hub: Hub, tmp_path: Path
) -> None:
    shutil.copytree(home, tmp_path / "model")
    config = yaml.safe_load((home / "config.yaml").read_text())
    config["chain"]["encoder"]["init_args"]["source"] = str(tiny.encoder)
    (tmp_path / "model" / "config.yaml").write_text(yaml.safe_dump(config))
    model = NextGPT.from_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=f"{tiny.encoder}: only this machine has it"):
        model.push_to_hub("me/small")
    assert hub.files == {}


def test_a_hub_that_refuses_is_one_line_with_the_repository(model: NextGPT, hub: Hub) -> None:
    with pytest.raises(
        ValueError, match="could not upload to not a name .*hf auth login"
    ) as caught:
        model.push_to_hub("not a name")
    assert "\n" not in str(caught.value)


def test_a_model_built_by_hand_has_no_configuration_to_write(
    model: NextGPT, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="did not come from a checkpoint"):
        NextGPT(model.model).save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["me/small", "no/such/folder"])
def test_a_name_that_is_no_directory_is_refused_with_the_form_of_a_repository(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a directory.*hf:owner/name@revision"):
        NextGPT.from_pretrained(name)


def test_an_unpinned_repository_is_refused() -> None:
    with pytest.raises(ValueError, match="'hf:me/small' is not pinned"):
        NextGPT.from_pretrained("hf:me/small")
