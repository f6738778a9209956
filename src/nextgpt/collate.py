"""Sequence plans to padded batches of the chain."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nextgpt.media import Medium
from nextgpt.modality import MODALITIES, Modality
from nextgpt.model import ChainBatch
from nextgpt.prompting import IGNORED, SequencePlan

MediaToTensor = Callable[[Modality, list[Medium]], Tensor]
"""Turns n media of one modality into a tensor with n rows."""


def collate(
    plans: Sequence[SequencePlan],
    features: MediaToTensor,
    targets: MediaToTensor | None = None,
    latents: MediaToTensor | None = None,
    pad_id: int = 0,
) -> ChainBatch:
    """Pad plans on the right and gather their media.

    Args:
        plans: B plans.
        features: Gives the encoder features of media in slots, (n, N, D_enc).
        targets: Gives the target conditioning of media in runs, (n, L, C); None leaves it out.
        latents: Gives the latents of media in runs, (n, C, ...); None leaves them out.
        pad_id: Token at padded positions; masked and never learned.
    """
    length = max(len(plan.input_ids) for plan in plans)
    input_ids = torch.full((len(plans), length), pad_id)
    attention_mask = torch.zeros(len(plans), length, dtype=torch.long)
    labels = torch.full((len(plans), length), IGNORED)
    for row, plan in enumerate(plans):
        count = len(plan.input_ids)
        input_ids[row, :count] = plan.input_ids
        attention_mask[row, :count] = 1
        labels[row, :count] = plan.labels
    batch = ChainBatch(input_ids, attention_mask, labels)
    for modality in MODALITIES:
        slots = [(r, s) for r, plan in enumerate(plans) for s in plan.slots]
        slots = [(row, slot) for row, slot in slots if slot.modality == modality]
        if slots:
            batch.slots[modality] = torch.tensor([(row, slot.start) for row, slot in slots])
            batch.features[modality] = features(modality, [slot.medium for _, slot in slots])
        runs = [(r, s) for r, plan in enumerate(plans) for s in plan.runs]
        runs = [(row, run) for row, run in runs if run.modality == modality]
        if runs:
            batch.runs[modality] = torch.tensor([(row, run.start) for row, run in runs])
            asked = [run.medium for _, run in runs]
            if targets is not None:
                batch.targets[modality] = targets(modality, asked)
            if latents is not None:
                batch.latents[modality] = latents(modality, asked)
    return batch
