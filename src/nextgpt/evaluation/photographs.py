"""Real photographs of the world's concepts, from packages that happen to hold some."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nextgpt.media import Image
from nextgpt.world.debian import debian_files
from nextgpt.world.sources import PinnedSource

PHOTOGRAPHS: dict[PinnedSource, dict[str, str]] = {
    PinnedSource(
        "pypi",
        "ascii_magic",
        "2.7.5",
        "9022e906c6ebaa7231e9af4587fa04636ec290240be5f2b65c3bbd071f94973a",
        "MIT",
        "test",
        "photographs",
    ): {
        "ascii_magic/tests/lion.jpg": "lion",
    },
    PinnedSource(
        "pypi",
        "fastbook",
        "0.0.29",
        "3e665803571ef4914956a4a0e029c28e9a6e229858d426ccec466db5ced40e44",
        "Apache-2.0",
        "test",
        "photographs",
    ): {
        "fastbook/images/cat.jpg": "cat",
    },
    PinnedSource(
        "pypi",
        "foolbox",
        "3.3.4",
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        "MIT",
        "test",
        "photographs",
    ): {
        "foolbox/data/imagenet_00_243.jpg": "dog",
        "foolbox/data/imagenet_16_251.jpg": "dog",
        "foolbox/data/imagenet_04_949.jpg": "strawberry",
        "foolbox/data/imagenet_05_853.jpg": "house",
        "foolbox/data/imagenet_06_609.jpg": "car",
        "foolbox/data/imagenet_07_609.jpg": "car",
        "foolbox/data/imagenet_10_541.jpg": "drum",
    },
    PinnedSource(
        "pypi",
        "gradio",
        "3.50.2",
        "dffc070955225dbc3af0cf4ce93a169267485bb6972ee76ff7a0f31be77346a0",
        "Apache-2.0",
        "test",
        "photographs",
    ): {
        "gradio/test_data/lion.jpg": "lion",
    },
    PinnedSource(
        "pypi",
        "ultralytics",
        "8.4.190",
        "bd309728efa168af64d39040136828edd2dbcb4aeceb4510bdff4f3ca0ea01b8",
        "AGPL-3.0-or-later",
        "test",
        "photographs",
    ): {
        "ultralytics/assets/bus.jpg": "bus",
    },
    PinnedSource(
        "debian",
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        "GPL-2.0-only",
        "test",
        "photographs",
    ): {
        "animals/amphibians/frog-1.png": "frog",
        "animals/amphibians/frog.png": "frog",
        "animals/birds/adelaide-rosella.png": "bird",
        "animals/birds/blackbird.png": "bird",
        "animals/birds/crow.png": "bird",
        "animals/birds/cuckoo.png": "bird",
        "animals/birds/lark.png": "bird",
        "animals/birds/magpie.png": "bird",
        "animals/birds/pigeon.png": "bird",
        "animals/birds/seagull.png": "bird",
        "animals/birds/silver-gull.png": "bird",
        "animals/birds/rainbow-lorikeet.png": "bird",
        "animals/birds/quetzal.png": "bird",
        "animals/birds/tucan.png": "bird",
        "animals/birds/drake.png": "duck",
        "animals/birds/duck.png": "duck",
        "animals/birds/little-penguin.png": "penguin",
        "animals/birds/magellanic_penguin.png": "penguin",
        "animals/birds/penguin.png": "penguin",
        "animals/birds/owl.png": "owl",
        "animals/birds/rooster.png": "rooster",
        "animals/fish/bluegroper.png": "fish",
        "animals/fish/butterflyfish.png": "fish",
        "animals/fish/clownfish.png": "fish",
        "animals/fish/coraltrout.png": "fish",
        "animals/fish/dolphinfish.png": "fish",
        "animals/fish/lionfish.png": "fish",
        "animals/fish/moonwrasse.png": "fish",
        "animals/fish/stripedfish.png": "fish",
        "animals/mammals/apes/tamarin_emperor.png": "monkey",
        "animals/mammals/aquatic/dolphin.png": "dolphin",
        "animals/mammals/aquatic/orca.png": "whale",
        "animals/mammals/aquatic/whale.png": "whale",
        "animals/mammals/bears/bear.png": "bear",
        "animals/mammals/bears/european-bear.png": "bear",
        "animals/mammals/bovines/bull.png": "cow",
        "animals/mammals/bovines/cow.png": "cow",
        "animals/mammals/bovines/cow_white.png": "cow",
        "animals/mammals/bovines/goat.png": "goat",
        "animals/mammals/bovines/mountaingoat.png": "goat",
        "animals/mammals/bovines/ram.png": "sheep",
        "animals/mammals/bovines/sheep.png": "sheep",
        "animals/mammals/bovines/sheep_lamb.png": "sheep",
        "animals/mammals/camel/camel.png": "camel",
        "animals/mammals/camel/dromedary.png": "camel",
        "animals/mammals/cats/lion-2.png": "lion",
        "animals/mammals/cats/lion.png": "lion",
        "animals/mammals/cats/tiger.png": "tiger",
        "animals/mammals/cats/tiger_sumatran.png": "tiger",
        "animals/mammals/dogs/dog.png": "dog",
        "animals/mammals/dogs/dingo.png": "dog",
        "animals/mammals/elephant.png": "elephant",
        "animals/mammals/equines/horse.png": "horse",
        "animals/mammals/pig.png": "pig",
        "animals/mammals/pig_golden.png": "pig",
        "animals/mammals/pig_golden2.png": "pig",
        "animals/mammals/rabbit_little.png": "rabbit",
        "animals/mammals/rodents/rabbit-2.png": "rabbit",
        "animals/mammals/rodents/rabbit.png": "rabbit",
        "animals/mammals/rodents/mouse.png": "mouse",
        "animals/marsupials/koala.png": "koala",
        "food/fruit/Strawberry2.png": "strawberry",
        "food/fruit/strawberry.png": "strawberry",
        "food/fruit/apple_fuji.png": "apple",
        "food/fruit/apple_granny_smith.png": "apple",
        "food/fruit/apple_green.png": "apple",
        "food/fruit/apple_red.png": "apple",
        "food/fruit/apple_sierra_beauty.png": "apple",
        "food/fruit/banana.png": "banana",
        "food/fruit/lemon.png": "lemon",
        "food/fruit/pear.png": "pear",
        "food/fruit/pineapple.png": "pineapple",
        "food/vegetables/mushroom.png": "mushroom",
        "plants/mushrooms/cep-1.png": "mushroom",
        "plants/mushrooms/cep-2.png": "mushroom",
        "plants/mushrooms/cep.png": "mushroom",
        "hobbies/camera_35mm.png": "camera",
        "hobbies/music/brass/trumpet.png": "trumpet",
        "hobbies/music/percussion/drum_tomtom_floor.png": "drum",
        "hobbies/music/percussion/drumkit.png": "drum",
        "hobbies/music/string/guitar2.png": "guitar",
        "hobbies/music/string/guitar_classical.png": "guitar",
        "hobbies/music/string/guitar_electric.png": "guitar",
        "hobbies/music/string/guitar_electric_bass.png": "guitar",
        "hobbies/music/string/violin.png": "violin",
        "plants/trees/birch.png": "tree",
        "plants/trees/holm_oak.png": "tree",
        "plants/trees/liberia-palm.png": "tree",
        "plants/trees/tree336.png": "tree",
        "seasonal/christmas/Christmas_Tree_photo.png": "tree",
        "seasonal/candle.png": "candle",
        "space/moon/moon_3qt.png": "moon",
        "space/moon/moon_crescent.png": "moon",
        "space/moon/moon_full.png": "moon",
        "vehicles/auto/beetle.png": "car",
        "vehicles/auto/sedan.png": "car",
        "vehicles/auto/sportscar2.png": "car",
        "vehicles/race/indycar.png": "car",
        "vehicles/auto/truck.png": "truck",
        "vehicles/garbagetruck.png": "truck",
        "vehicles/emergency/firetruck.png": "fire engine",
        "vehicles/flight/balloon360.png": "balloon",
        "vehicles/flight/planes/747.png": "airplane",
        "vehicles/masstransit/green_korean_bus.png": "bus",
    },
}
"""Package -> its photographs and what they show. All that were found: none was left out for how a
model does on it. Those of tuxpaint-stamps are cut out; its drawings and parts of things are not
among them."""


@dataclass(frozen=True)
class Photograph:
    """A photograph and what it shows."""

    id: str
    """Package and file."""
    image: Image
    concept: str


def photographs(archives: Path | None = None) -> list[Photograph]:
    """Fetch and read all photographs.

    Args:
        archives: Folder of packages fetched by hand, looked at before the registries.

    Raises:
        SourceError: a package cannot be had.
    """
    found = []
    for source, members in PHOTOGRAPHS.items():
        package = source.fetch(archives)
        read = _in_debian_package if source.client == "debian" else _in_wheel
        found += [
            Photograph(f"{source.package}-{Path(name).stem}", image, members[name])
            for name, image in read(package, members)
        ]
    return found


def _in_wheel(package: Path, names: Iterable[str]) -> Iterator[tuple[str, Image]]:
    with zipfile.ZipFile(package) as wheel:
        for name in names:
            yield name, Image(wheel.read(name))


def _in_debian_package(package: Path, names: Iterable[str]) -> Iterator[tuple[str, Image]]:
    files = {str(path): path for path in debian_files(package, ".png")}
    for name in names:
        [path] = [path for file, path in files.items() if file.endswith(f"/stamps/{name}")]
        yield name, Image(path)
