"""The recipe of micro-bind on a tiny world: it learns, writes a part, and the part reads back."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image as PILImage
from PIL import ImageChops, ImageDraw
from quiet_trainer import quiet_trainer
from tiny_encoder import CONFIG, tiny_encoder

from nextgpt.data.manifest import Item, write_manifest
from nextgpt.decoders import ImageDecoder
from nextgpt.encoders import MicroBindEncoder
from nextgpt.media import Image
from nextgpt.modality import Modality
from nextgpt.training.parts.picture_binding import (
    ATTRIBUTES,
    PictureBindingData,
    PictureBindingRecipe,
    distort,
)
from nextgpt.world.scenes import COLOURS, Scene, describe

if TYPE_CHECKING:
    from conftest import TinyParts

ARTISTS = ("noto", "twemoji")


def draw(
    directory: Path, name: str, concept: str, background: str, split: str, artist: str
) -> Item:
    picture = PILImage.new("RGB", (64, 64), COLOURS[background])
    shape = getattr(ImageDraw.Draw(picture), "ellipse" if concept == "apple" else "rectangle")
    shape((16, 16, 48, 48), fill="brown" if artist == "noto" else "grey")
    picture.save(directory / f"{name}.png")
    scene = Scene(concept, background)
    attributes = {key: getattr(scene, key) for key in ATTRIBUTES}
    attributes |= {"style": None, "drawing": f"{artist}/{concept}", "view": "whole"}
    caption = describe(scene)
    return Item(name, "image", f"{name}.png", caption, concept, attributes, "test", "CC0", split)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of boxes and balls on five backgrounds."""
    directory = tmp_path_factory.mktemp("world")
    items = []
    for concept in ("apple", "house"):
        for background in list(COLOURS)[:5]:
            for artist in ARTISTS:
                name = f"train-{concept}-{background}-{artist}"
                items.append(draw(directory, name, concept, background, "train", artist))
        for split, artist in (("validation", "noto"), ("held_out_drawing", "fxemoji")):
            items.append(draw(directory, f"{split}-{concept}", concept, "pink", split, artist))
    write_manifest(directory / "manifest.jsonl", items)
    return directory


@pytest.fixture
def data(world: Path, sentences: Path, own_cache: Path, tmp_path: Path) -> PictureBindingData:
    trunk = tiny_encoder(tmp_path)[1]
    return PictureBindingData(
        world,
        str(trunk),
        CONFIG["trunk"]["name"],
        CONFIG["trunk"]["parameters"],
        str(sentences),
        pictures_per_drawing=4,
        batch_size=4,
    )


def fit(
    recipe: PictureBindingRecipe, data: PictureBindingData, directory: Path, max_steps: int
) -> None:
    trainer = quiet_trainer(directory, max_steps, val_check_interval=2)
    trainer.fit(recipe, datamodule=data)


def test_two_steps_train_every_weight_and_write_a_part(
    data: PictureBindingData, tmp_path: Path
) -> None:
    recipe = PictureBindingRecipe(
        tmp_path / "encoder", hidden_dim=8, gate_rank=3, num_classes_averaged=3
    )
    torch.manual_seed(0)
    initial: dict[str, torch.Tensor] = {}
    recipe.on_fit_start = lambda: initial.update(  # type: ignore[method-assign]
        {name: value.detach().clone() for name, value in recipe.named_parameters()}
    )
    fit(recipe, data, tmp_path, max_steps=2)
    unchanged = [name for name, v in recipe.named_parameters() if torch.equal(v, initial[name])]
    assert initial and not unchanged

    encoder = MicroBindEncoder(str(tmp_path / "encoder"), data.trunk_source)
    assert encoder.modalities == (Modality.IMAGE,)
    assert encoder.feature_shape(Modality.IMAGE) == (1, 16)
    picture = Image(next(data.world.glob("*.png")))
    batch = encoder.preprocess(Modality.IMAGE, picture)[None]
    assert torch.isfinite(encoder.encode(Modality.IMAGE, batch)).all()
    summary = encoder.image.summary(batch)
    # The part holds float16; measured worst case 4e-4.
    assert torch.allclose(encoder.image.head(summary), recipe.eval().network(summary), atol=5e-3)
    assert encoder.config["trained_on"]["image"]["items"] == 16
    assert 0 <= encoder.config["trained_on"]["image"]["accuracy"]["held_out_drawing/concept"] <= 1


def test_a_part_can_be_gone_on_from(data: PictureBindingData, tmp_path: Path) -> None:
    options = {"hidden_dim": 8, "gate_rank": 3, "num_classes_averaged": 3}
    fit(PictureBindingRecipe(tmp_path / "first", **options), data, tmp_path, max_steps=2)
    recipe = PictureBindingRecipe(tmp_path / "second", tmp_path / "first", **options)
    fit(recipe, data, tmp_path, max_steps=0)
    first = MicroBindEncoder(str(tmp_path / "first"), data.trunk_source).image.head
    for name, value in recipe.network.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])


def test_a_part_gone_on_from_keeps_its_other_sides(
    data: PictureBindingData, tmp_path: Path
) -> None:
    earlier = MicroBindEncoder(str(tiny_encoder(tmp_path / "random")[0]), data.trunk_source)
    sizes = {"hidden_dim": 32, "gate_rank": 4, "num_classes_averaged": 3}
    earlier.save_pretrained(tmp_path / "earlier")
    recipe = PictureBindingRecipe(tmp_path / "encoder", tmp_path / "earlier", **sizes)
    fit(recipe, data, tmp_path, max_steps=2)
    part = MicroBindEncoder(str(tmp_path / "encoder"), data.trunk_source)
    assert part.modalities == earlier.modalities
    for name, side in part.sides.items():
        same = [
            torch.equal(value, earlier.sides[name].state_dict()[key])
            for key, value in side.state_dict().items()
        ]
        assert all(same) == (name != "image")


def test_own_drawings_join_the_worlds(
    world: Path, data: PictureBindingData, tiny: TinyParts
) -> None:
    data = PictureBindingData(
        world,
        data.trunk_source,
        sentences=data.sentences,
        decoder=ImageDecoder(str(tiny.image), num_inference_steps=1),
        num_own=20,
    )
    chosen = data.choose_items()
    own = [item for item in chosen["train"] if item.split == "own_train"]
    assert sorted(item.caption for item in own) == sorted(
        item.caption for item in chosen["train"] if item.split == "train"
    )
    assert all(Image(item.path).check() for item in own)
    assert {item.split for item in chosen["own_validation"]} == {"own_validation"}
    assert data.splits == ("train", "validation", "held_out_drawing", "own_validation")


def test_training_lowers_the_loss(data: PictureBindingData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = PictureBindingRecipe(tmp_path / "encoder", hidden_dim=32, dropout=0.0, gate_rank=3)
    losses: list[float] = []
    recipe.on_train_batch_end = (  # type: ignore[method-assign]
        lambda outputs, batch, batch_idx: losses.append(float(outputs["loss"]))
    )
    fit(recipe, data, tmp_path, max_steps=32)
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_summaries_come_from_the_cache_the_second_time(
    data: PictureBindingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.setup("fit")
    first = data.datasets
    del data.datasets

    def refuse(*arguments: object) -> None:
        raise AssertionError("the trunk ran again")

    monkeypatch.setattr("nextgpt.encoders.towers.Trunk.forward", refuse)
    data.setup("fit")
    for split, dataset in data.datasets.items():
        assert torch.equal(dataset.tensors[0], first[split].tensors[0])


def test_no_drawing_is_taken_more_often_than_asked(data: PictureBindingData) -> None:
    chosen = [item.attributes["drawing"] for item in data.choose_items()["train"]]
    assert {chosen.count(drawing) for drawing in chosen} == {4}
    assert len(set(chosen)) == 4


def test_a_world_without_a_split_is_named(data: PictureBindingData, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("")
    data.world = tmp_path
    with pytest.raises(ValueError, match="no image of split train"):
        data.setup("fit")


def test_distortion_keeps_the_background_and_follows_its_seed() -> None:
    for name, colour in COLOURS.items():
        picture = PILImage.new("RGB", (128, 128), colour)
        for seed in range(8):
            changed = distort(picture, random.Random(seed))
            again = distort(picture, random.Random(seed))
            assert ImageChops.difference(changed, again).getbbox() is None
            red, green, blue = changed.resize((1, 1)).getpixel((0, 0))
            nearest = min(
                COLOURS,
                key=lambda other: sum(
                    (a - b) ** 2 for a, b in zip(COLOURS[other], (red, green, blue), strict=True)
                ),
            )
            assert nearest == name
