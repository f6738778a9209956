"""Sequence plans to batches of the chain: padded, or several in a row."""

import heapq
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nextgpt.batch import ChainBatch
from nextgpt.media import Medium
from nextgpt.modality import MODALITIES, Modality
from nextgpt.prompting import IGNORED, SequencePlan

MediaToTensor = Callable[[Modality, list[Medium]], Tensor]
"""Turns media of one modality into a tensor with a row for each of them, or for each view."""

ATTENTION_LENGTH = 3000
"""Length of a row at which attention, which looks at the whole row, costs as much as all else: six
times the width of the language model, here of a small one."""


def collate(
    plans: Sequence[SequencePlan],
    features: MediaToTensor,
    targets: MediaToTensor | None = None,
    latents: MediaToTensor | None = None,
    pad_id: int = 0,
    pack: bool = False,
) -> ChainBatch:
    """Put plans into rows, pad those on the right and gather their media.

    Args:
        plans: B plans, all of one weight.
        features: Gives the encoder features of media in slots, (V, N, D_enc).
        targets: Gives the target conditioning of media in runs, (n, L, C); None leaves it out.
        latents: Gives the latents of media in runs, (n, C, ...); None leaves them out.
        pad_id: Token at padded positions; masked and never learned.
        pack: Let plans share rows where that saves padding, else each has its own. Positions start
            anew with every plan, and none sees another.
    """
    lengths = [len(plan.input_ids) for plan in plans]
    places = packed(lengths) if pack else [(row, 0) for row in range(len(plans))]
    num_rows = 1 + max(row for row, _ in places)
    width = max(start + length for (_, start), length in zip(places, lengths, strict=True))
    input_ids = torch.full((num_rows, width), pad_id)
    attention_mask = torch.zeros(num_rows, width, dtype=torch.long)
    labels = torch.full((num_rows, width), IGNORED)
    position_ids = torch.arange(width).repeat(num_rows, 1)
    for plan, (row, start), length in zip(plans, places, lengths, strict=True):
        here = slice(start, start + length)
        input_ids[row, here] = plan.input_ids
        attention_mask[row, here] = 1
        labels[row, here] = plan.labels
        labels[row, start] = IGNORED  # Nothing that belongs to it stands before it.
    for row, start in sorted(places):
        # What pads the row behind its last plan counts on; nobody looks there.
        position_ids[row, start:] = torch.arange(width - start)
    weights = {plan.weight for plan in plans}
    assert len(weights) == 1, "a batch has one loss"
    batch = ChainBatch(input_ids, attention_mask, labels, weight=weights.pop())
    if num_rows < len(plans):
        batch.position_ids = position_ids
    for modality in MODALITIES:
        slots = [
            (row, start + slot.start, slot)
            for plan, (row, start) in zip(plans, places, strict=True)
            for slot in plan.slots
            if slot.modality == modality
        ]
        if slots:
            batch.slots[modality] = torch.tensor([place for *place, _ in slots])
            batch.layouts[modality] = [slot.layout for *_, slot in slots]
            batch.texts[modality] = [slot.text for *_, slot in slots]
            batch.features[modality] = features(modality, [slot.medium for *_, slot in slots])
        runs = [
            (row, start + run.start, run.medium)
            for plan, (row, start) in zip(plans, places, strict=True)
            for run in plan.runs
            if run.modality == modality
        ]
        if runs:
            batch.runs[modality] = torch.tensor([place for *place, _ in runs])
            asked = [medium for *_, medium in runs]
            if targets is not None:
                batch.targets[modality] = targets(modality, asked)
            if latents is not None:
                batch.latents[modality] = latents(modality, asked)
    return batch


def packed(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Place sequences in rows so that they cost little: row and first position of each.

    From the longest to the shortest, each goes to the shortest row; of all numbers of rows the one
    with the least to compute is taken.
    """
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])

    def placed(num_rows: int) -> tuple[float, list[tuple[int, int]]]:
        places, filled = [(0, 0)] * len(lengths), [(0, row) for row in range(num_rows)]
        for index in longest_first:
            start, row = filled[0]
            places[index] = row, start
            heapq.heapreplace(filled, (start + lengths[index], row))
        width, _ = max(filled)
        return num_rows * width * (1 + width / ATTENTION_LENGTH), places

    return min(placed(num_rows) for num_rows in range(len(lengths), 0, -1))[1]
