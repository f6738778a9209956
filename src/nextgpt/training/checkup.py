"""What the doctor is told of a stage, and its checks before ``fit`` loads anything."""

from __future__ import annotations

import importlib
from typing import Any

from jsonargparse import Namespace

from nextgpt.doctor.examination import Examination, StagePlan
from nextgpt.training.stage import Stage


def is_stage(config: Namespace) -> bool:
    """Whether a parsed configuration trains a chain, and not one of its parts."""
    module, _, name = config.model.class_path.rpartition(".")
    return issubclass(getattr(importlib.import_module(module), name), Stage)


def plan_of(name: str, config: Namespace, data: Any, length: int | None = None) -> StagePlan:
    """Read a stage's plan from its configuration.

    Args:
        name: Of the stage.
        config: ``model``, ``data`` and ``trainer`` of a chain, parsed.
        data: The data module that was built from it.
        length: Tokens of a conversation, where not ``max_length``.
    """
    options = config.model.init_args
    return StagePlan(
        name,
        options.chain.as_dict(),
        options.trains,
        options.start_from,
        options.grow,
        options.new_bridge,
        options.output,
        data.batch_size,
        length,
        str(config.trainer.precision or "32-true"),
        [file for source in (*data.train, *data.validation) for file in source.files()],
        options.denoising_weight > 0,
        options.activation_checkpointing,
    )


def refuse_what_cannot_start(plan: StagePlan) -> None:
    """Check all that can be checked without weights.

    Raises:
        ValueError: a run would not start; says why, and how many reasons more there are.
    """
    problems = Examination([plan], ask_hub=False).check().problems
    if problems:
        others = len(problems) - 1
        more = f" ({others} more: `nextgpt doctor` names them)" if others else ""
        raise ValueError(problems[0] + more)
