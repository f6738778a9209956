"""``nextgpt doctor``: what a configuration needs, and whether it would run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nextgpt.configuration import read_config
from nextgpt.doctor.examination import Examination, StagePlan
from nextgpt.doctor.tables import show
from nextgpt.training.checkup import is_stage, plan_of
from nextgpt.training.cli import ConfiguredCLI, configured


class ParsedCLI(ConfiguredCLI):
    """Parses a configuration and builds nothing of it."""

    def instantiate_classes(self) -> None:
        """Build nothing."""


def run(arguments: Sequence[str]) -> int:
    """Examine a configuration and print what is found.

    Returns:
        0 where its stages would start, else 1.

    Raises:
        ValueError: the configuration is not usable, or not that of a chain.
    """
    parser = argparse.ArgumentParser(
        "nextgpt doctor",
        description="Say what a configuration needs (licences, memory, disk) and whether it would "
        "run, without fetching or loading weights. Every key is a flag too.",
    )
    add = parser.add_argument
    add("-c", "--config", type=Path, action="append", required=True, metavar="FILE",
        help="configuration; repeatable, later wins")  # fmt: skip
    add("--stage", action="append", default=[], metavar="NAME",
        help="repeatable (default: all stages in their order)")  # fmt: skip
    add("--length", type=int, metavar="TOKENS",
        help="of a conversation, for the memory (default: max_length, the worst case)")  # fmt: skip
    options, flags = parser.parse_known_args(arguments)
    report = Examination(plans_of(options.config, options.stage, flags, options.length)).measure()
    show(report, Console())
    return 1 if report.problems else 0


def plans_of(
    files: Sequence[Path],
    stages: Sequence[str] = (),
    flags: Sequence[str] = (),
    length: int | None = None,
) -> list[StagePlan]:
    """Read the plans of some stages from configuration files; of those of a part little is read.

    Args:
        files: Later ones win.
        stages: Of which stages; of all by default.
        flags: Keys of the configuration as flags, which win.
        length: Tokens of a conversation, where not ``max_length``.

    Raises:
        ValueError: a configuration is not usable, or not that of a chain.
    """
    options = [f"--config={file}" for file in files]
    known = dict.fromkeys(name for file in files for name in read_config(file).get("stages") or {})
    plans = []
    for stage in list(stages or known) or [None]:
        chosen = [] if stage is None else [f"--stage={stage}"]
        arguments = [*options, *chosen, *flags, "--seed_everything=false"]
        cli = configured(arguments, cli_class=ParsedCLI)
        if is_stage(cli.config):
            plans.append(plan_of(stage or "run", cli.config, cli.data(), length))
        else:
            output = cli.config.model.init_args.get("output")
            plans.append(StagePlan(stage or "run", None, output=output))
    if all(plan.chain is None for plan in plans):
        raise ValueError(f"{files[0]} trains a part; the doctor examines chains")
    return plans
