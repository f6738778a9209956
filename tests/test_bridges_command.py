"""``nextgpt bridges`` through the front door: the table of systems, and drawings of pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image as PILImage
from tiny_bert import SIZES, tiny_bert
from tiny_chain import tiny_chain_config

from nextgpt.bridge_views.picture import WIDTH, seen_views, sheet_of
from nextgpt.bridge_views.sequence import beside_sequence, in_sequence
from nextgpt.bridge_views.systems import System, shipped_systems
from nextgpt.bridge_views.table import num_tokens, row_of
from nextgpt.bridges import QFormerConnector
from nextgpt.cli import main
from nextgpt.encoders import MicroBindEncoder
from nextgpt.input_side import InputSide
from nextgpt.media import Image
from nextgpt.modality import Modality
from nextgpt.training.qformer_stage import QFormerStage

if TYPE_CHECKING:
    from conftest import TinyParts

SIZE = (640, 480)
LLAVAS = ("llava", "llava15", "llava_next")


@pytest.fixture(scope="module")
def systems() -> dict[str, System]:
    """Systems of which nothing but sizes is needed, and these are in the package."""
    files = shipped_systems()
    return {name: System(files[name]) for name in LLAVAS}


@pytest.fixture
def flamingo(tiny: TinyParts, tmp_path: Path) -> System:
    """Tiny parts whose media stand beside the sequence, and a stage that trains a part."""
    chain = tiny_chain_config(tiny)
    chain["partition"] = {
        "class_path": "nextgpt.bridges.Partition",
        "init_args": {"num_frames": 3, "join_frames": True},
    }
    chain["connector"] = {
        "class_path": "nextgpt.bridges.PerceiverResampler",
        "init_args": {"num_latents": 5, "depth": 1},
    }
    chain["assembler"] = {"class_path": "nextgpt.bridges.Beside"}
    chain["fusion"] = {
        "class_path": "nextgpt.bridges.GatedCrossAttention",
        "init_args": {"every_n": 1},
    }
    stages = {
        "all": {"model": {"init_args": {"trains": ["fusion", "assembler"]}}},
        "adapter": {"model": {"init_args": {"trains": ["lora"]}}},
        "part": {
            "model": {
                "class_path": "torch.nn.Linear",
                "init_args": {"in_features": 3, "out_features": 4},
            }
        },
    }
    return System(written(tmp_path / "flamingo.yaml", chain, stages))


def written(file: Path, chain: dict[str, Any], stages: Any) -> Path:
    model = {"class_path": "nextgpt.training.stage.Stage", "init_args": {"chain": chain}}
    file.write_text(yaml.safe_dump({"model": model, "stages": stages}))
    return file


def noise(*size: int) -> Image:
    width, height = size
    return Image(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def with_size(chain: InputSide, size: tuple[int, int]) -> tuple[int, int]:
    return num_tokens(chain, Modality.IMAGE, size)


# The table


@pytest.mark.parametrize(
    ("name", "picture", "video", "aligned"),
    [
        ("llava", 256, 8 * 256, 1024 * 4096 + 4096),
        ("llava15", 576, 8 * 576, 4_198_400 + 4096 * 4096 + 4096),
        # 2 x 2 tiles of 24 x 24; of 48 rows those of the padding, 48 * (1 - 480/640), are left out.
        ("llava_next", 576 + 36 * (48 + 1), 8 * 576, 20_979_712),
    ],
)
def test_counts_are_those_of_the_papers(
    systems: dict[str, System], name: str, picture: int, video: int, aligned: int
) -> None:
    row = row_of(systems[name], SIZE)
    assert row.picture == (picture, 0) and row.video == (video, 0)
    assert row.trained["encode_align"] == aligned
    assert set(row.trained) == {"encode_align", "instruct", "decode_align"}
    # Vicuna-7B itself trains, and in LLaVA-NeXT the vision tower and the end of a row.
    assert row.trained["instruct"] >= 6_738_415_616 + aligned


def test_media_beside_the_sequence_are_counted_apart(flamingo: System) -> None:
    row = row_of(flamingo, SIZE)
    assert row.picture == (1, 5) and row.video == (1, 5)
    assert row.parts["fusion"] == "GatedCrossAttention"


def test_a_stage_trains_what_the_chain_or_the_part_says(flamingo: System) -> None:
    parts = (flamingo.chain.fusion, flamingo.chain.assembler)
    own = sum(p.numel() for part in parts if part for p in part.parameters())
    assert row_of(flamingo, SIZE).trained == {"all": own, "adapter": 1024, "part": 3 * 4 + 4}


def test_a_q_former_that_trains_alone_is_counted_where_its_tokenizer_is_here(
    tiny: TinyParts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = tiny_chain_config(tiny)

    def stage(tokenizer: Path) -> dict[str, Any]:
        options = {**SIZES, "tokenizer": str(tokenizer), "num_queries": 3}
        connector = {"class_path": "nextgpt.bridges.QFormerConnector", "init_args": options}
        options = {"encoder": chain["encoder"], "connector": connector}
        name = "nextgpt.training.qformer_stage.QFormerStage"
        return {"model": {"class_path": name, "init_args": options}}

    stages = {"here": stage(tiny_bert(tmp_path / "bert")), "elsewhere": stage(tmp_path / "no")}
    file = written(tmp_path / "blip2.yaml", chain, stages)
    encoder = chain["encoder"]["init_args"]
    connector = partial(QFormerConnector, **SIZES, tokenizer=tmp_path / "bert", num_queries=3)
    real = QFormerStage(MicroBindEncoder(**encoder), connector)
    own = sum(p.numel() for part in (real.qformer, real.heads) for p in part.parameters())
    assert row_of(System(file), SIZE).trained == {"here": own, "elsewhere": None}
    assert main(["bridges", "-c", str(file)]) == 0
    printed = capsys.readouterr().out
    assert f"{own:,}" in printed and "not known" in printed


def test_the_table_is_printed_and_a_broken_file_is_one_line_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    files = [str(broken), str(shipped_systems()["llava"])]
    arguments = [word for file in files for word in ("-c", file)]
    assert main(["bridges", *arguments, "--size", "1200x40"]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and f"{broken}: not YAML" in printed.err
    for words in ("1200x40 picture", "LLaVA", "4,198,400", "arXiv:2304.08485", "256", "2,048"):
        assert words in printed.out
    assert main(["bridges", "-c", files[1]]) == 0
    assert "640x480 picture" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chain", "stages", "told"),
    [
        ({}, None, "language_model"),
        ("chain", None, "no chain"),
        (None, ["instruct"], "stages is"),
        (None, {"instruct": "all"}, "stages.instruct is 'all'"),
        (None, {"instruct": {"model": {"init_args": {"trains": "lora"}}}}, "'lora'; give a list"),
        (None, {"instruct": {"model": {"init_args": {"trains": ["head"]}}}}, "cannot train head"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(
    chain: Any,
    stages: Any,
    told: str,
    tiny: TinyParts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = tiny_chain_config(tiny) if chain is None else chain
    file = written(tmp_path / "faulty.yaml", whole, stages)
    assert main(["bridges", "-c", str(file)]) == 1
    printed = capsys.readouterr()
    assert not printed.out and printed.err.count("\n") == 1
    assert str(file) in printed.err and told in printed.err


@pytest.mark.parametrize("size", ["640", "0x480", "640x", "-1x3", "1.5x2", "axb"])
def test_a_size_that_is_none_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bridges", f"--size={size}"]) == 1
    assert f"--size {size}: give width and height" in capsys.readouterr().err


# Sequences and drawings


@pytest.mark.parametrize("size", [SIZE, (300, 600), (1200, 40), (1, 300), (300, 1), (1, 1)])
@pytest.mark.parametrize("name", LLAVAS)
def test_a_drawing_has_one_cell_a_token_and_none_lies_on_another(
    systems: dict[str, System], name: str, size: tuple[int, int]
) -> None:
    chain = systems[name].chain
    sheet = sheet_of(chain, noise(*size), name)
    assert len(sheet.cells) == with_size(chain, size)[0]
    drawn = np.zeros(sheet.image.size, int)
    for left, top, right, bottom in sheet.cells:
        assert 0 <= left < right <= sheet.image.width and 0 <= top < bottom <= sheet.image.height
        drawn[left:right, top:bottom] += 1
    assert drawn.max() == 1
    assert sheet.image.width <= WIDTH and 400 < sheet.image.height < 2000


def test_lines_are_rows_of_patches_and_tiles_end_in_learned_vectors(
    systems: dict[str, System],
) -> None:
    chain = systems["llava_next"].chain
    whole, tiles = in_sequence(chain, chain.layout(Modality.IMAGE, SIZE))
    assert whole.first == 1 and {len(line) for line in whole.lines} == {24}
    assert [cell.patch for cell in whole.cells] == [(y, x) for y in range(24) for x in range(24)]
    assert tiles.first == 577 and len(tiles.lines) == 36
    assert all(len(line) == 49 and line[-1].view is None for line in tiles.lines)
    # The first row that is no padding is the seventh of the tiles 1 and 2, behind the whole.
    assert [cell.patch for cell in tiles.lines[0][:48]] == 2 * [(6, x) for x in range(24)]
    assert [cell.view for cell in tiles.lines[0][:48]] == 24 * [1] + 24 * [2]


def test_tokens_beside_the_sequence_are_drawn_as_well(flamingo: System) -> None:
    chain = flamingo.chain
    layout = chain.layout(Modality.IMAGE, SIZE)
    (inside,), (beside,) = in_sequence(chain, layout), beside_sequence(chain, layout)
    assert [cell.view for cell in inside.cells] == [None]
    assert [(cell.view, cell.patch) for cell in beside.cells] == 5 * [(0, None)]
    assert len(sheet_of(chain, noise(*SIZE), "Flamingo").cells) == 1 + 5


def test_the_encoder_sees_the_padding_of_a_wide_picture_and_the_middle_of_a_cropped_one(
    systems: dict[str, System],
) -> None:
    red = PILImage.new("RGB", (400, 200), (200, 0, 0))
    red.paste((0, 0, 200), (0, 0, 90, 200))
    (padded,) = seen_views(systems["llava15"].chain, Image(red))
    assert padded.size == (336, 336)
    assert padded.getpixel((168, 20)) == padded.getpixel((168, 316)) == (122, 116, 104)
    assert padded.getpixel((20, 168)) == (0, 0, 200) and padded.getpixel((168, 168)) == (200, 0, 0)
    (cropped,) = seen_views(systems["llava"].chain, Image(red))
    assert set(cropped.get_flattened_data()) == {(200, 0, 0)}


def test_a_cell_shows_its_patch_in_the_colour_of_its_view(systems: dict[str, System]) -> None:
    picture = PILImage.new("RGB", (224, 224), (0, 200, 0))
    picture.paste((200, 0, 200), (14, 0, 28, 14))
    sheet = sheet_of(systems["llava"].chain, Image(picture), "LLaVA")
    middles = [
        sheet.image.getpixel(((left + right) // 2, (top + bottom) // 2))
        for left, top, right, bottom in sheet.cells
    ]
    assert middles == [(0, 200, 0), (200, 0, 200)] + 254 * [(0, 200, 0)]
    assert sheet.image.getpixel(sheet.cells[0][:2]) == (0xE4, 0x57, 0x2E)


def test_show_writes_a_drawing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(90, 60).save(Path("photo.png"))
    assert main(["bridges", "show", "llava", "--image", "photo.png"]) == 0
    assert "llava.png: 256 tokens in the sequence" in capsys.readouterr().out
    with PILImage.open("llava.png") as drawing:
        assert drawing.format == "PNG" and min(drawing.size) > 400


def test_show_refuses_what_it_cannot_draw_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(9, 6).save(Path("photo.png"))
    Path("words.png").write_text("no picture")
    for name, image, out, told in [
        ("lava", "photo.png", "a.png", "no system 'lava'; choose nextgpt-7b, "),
        ("llava", "words.png", "a.png", "words.png"),
        ("llava", "nowhere.png", "a.png", "nowhere.png"),
        ("llava", "photo.png", "a.jpg", "--out a.jpg: name a .png file"),
        ("llava", "photo.png", "no/a.png", "there is no folder no"),
    ]:
        assert main(["bridges", "show", name, "--image", image, "--out", out]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and told in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "words.png"]
