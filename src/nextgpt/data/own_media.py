"""What the model's decoders make of captions: what it sees of its own replies in a next turn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from nextgpt.data.conversations import MediumToCaption
from nextgpt.data.manifest import Item
from nextgpt.modality import MODALITIES, Modality
from nextgpt.sources import cache_dir

if TYPE_CHECKING:
    from nextgpt.decoders import Decoder
    from nextgpt.model import NextGPTModel

BATCH_SIZE = 16


def rendered(
    items: Sequence[Item], decoder: Decoder, seed: int = 0, split: str = "own_train"
) -> list[Item]:
    """Let a decoder make a medium of every caption; each is kept in the user's cache.

    An interrupted rendering goes on where it was. No more is known of what comes out than of what
    was asked for: some are wrong, as often as the decoder is.

    Args:
        items: Whose captions.
        decoder: The medium's decoder, conditioned by its own text encoder.
        seed: Of the noise that media start from.
        split: Of the items returned.

    Returns:
        The items with the paths of what was made, which are absolute.
    """
    settings = (decoder.fingerprint(), *decoder.sampling(), seed)
    recipe = "\n".join([*map(str, settings), *(item.caption for item in items)])
    folder = cache_dir() / "own_media" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    suffix = MODALITIES[decoder.modality].file_suffix
    paths = [folder / f"{number:05d}{suffix}" for number in range(len(items))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with tqdm(total=len(missing), desc=f"own {decoder.modality}", disable=not missing) as bar:
        for start in range(0, len(missing), BATCH_SIZE):
            batch = missing[start : start + BATCH_SIZE]
            conditioning = decoder.encode_text([items[number].caption for number in batch])
            noise = [torch.Generator().manual_seed(seed + number) for number in batch]
            for number, medium in zip(batch, decoder.decode(conditioning, noise), strict=True):
                medium.save(paths[number])
            bar.update(len(batch))
    return [
        replace(item, id=f"{split}/{item.id}", path=str(path), source="own decoder", split=split)
        for item, path in zip(items, paths, strict=True)
    ]


class OwnMedia(MediumToCaption):
    """What the chain's own decoders make of captions is shown; the caption is the answer.

    A reply's media are part of the next turn, and look and sound unlike those of the world.
    """

    def prepare(self, chain: NextGPTModel) -> None:
        """Render the chosen captions with the chain's decoders, once."""
        self.render(chain.decoders)

    def render(self, decoders: Mapping[Modality, Decoder]) -> None:
        """Let these decoders make a medium of every chosen caption, in the items' place."""
        made = []
        for modality, decoder in decoders.items():
            items = [item for item in self.items if item.modality == modality]
            made += rendered(items, decoder, self.seed, f"own_{self.split}")
        self.items = made

    def provenance(self) -> dict[str, Any]:
        """The seed of the noise as well."""
        return super().provenance() | {"seed": self.seed}
