"""What is left of pictures on their way, side by side: the world's own, decoded again, drawn anew.

The world's own pictures of held-out compositions at the size the decoder makes; the same through
its autoencoder and back; and what it draws of their captions as text. The judge of ``nextgpt test``
names what they show, and its layout counts several things.
"""

import argparse
import random
from pathlib import Path

from PIL import Image as PILImage
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nextgpt.data.conversations import medium_of, world_manifest
from nextgpt.data.manifest import Item, read_manifest
from nextgpt.data.own_media import rendered
from nextgpt.decoders import ImageDecoder
from nextgpt.evaluation.judge import Judge
from nextgpt.evaluation.layout import layout_of, things_in
from nextgpt.media import Image
from nextgpt.modality import Modality

KINDS = ("large", "medium", "small", "two different", "two alike", "three alike")


def kind_of(item: Item) -> str:
    """One of KINDS."""
    shown = item.attributes
    if shown["second"] is not None:
        return "two different"
    return {2: "two alike", 3: "three alike"}.get(shown["count"], shown["size"])


def held_out_pictures(number: int) -> dict[str, list[Item]]:
    """Pictures of no training split, at most so many of each kind."""
    items = [
        item
        for item in read_manifest(world_manifest())
        if item.modality == Modality.IMAGE and item.split in ("validation", "held_out_pair")
    ]
    random.Random(0).shuffle(items)
    return {kind: [i for i in items if kind_of(i) == kind][:number] for kind in KINDS}


def opened(items: list[Item]) -> list[Image]:
    """Pictures of some items."""
    media = (medium_of(item, world_manifest()) for item in items)
    return [medium for medium in media if isinstance(medium, Image)]


def is_right(judge: Judge, item: Item, picture: PILImage.Image) -> bool:
    """Whether a picture shows what the item shows: the concept, both of them, or the number."""
    if item.attributes["count"] > 1:
        return layout_of(picture).count == item.attributes["count"]
    if item.attributes["second"] is None:
        return judge.concepts_in([picture]) == [item.concept]
    return {item.concept, item.attributes["second"]} <= set(judge.concepts_in(things_in(picture)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, default=Path("checkpoints/micro/image"))
    parser.add_argument("--pictures", type=int, default=160, help="of each kind, at most")
    arguments = parser.parse_args()

    decoder = ImageDecoder(str(arguments.pipeline), 14, 2.5, solver="multistep")
    judge = Judge.load()
    table = Table("held-out pictures", "of", "the world's own", "decoded again", "drawn anew")
    for kind, items in track(held_out_pictures(arguments.pictures).items(), "Pictures"):
        media = opened(items)
        again = [decoder.preview(decoder.latents([medium])) for medium in media]
        own = [medium.pil.resize(again[0].size, PILImage.Resampling.BOX) for medium in media]
        anew = [medium.pil for medium in opened(rendered(items, decoder))]
        right = [
            sum(is_right(judge, item, picture) for item, picture in zip(items, each, strict=True))
            for each in (own, again, anew)
        ]
        table.add_row(kind, str(len(items)), *map(str, right))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
