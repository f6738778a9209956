"""The command ``nextgpt test``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Measure a model on held-out requests, drawings, recordings, clips and photographs: prints a table,
writes results.json, results.md, a page with every case and its media (index.html) and all replies.
An interrupted measurement goes on where it was. Every key of the configuration is an option as
well: --model.init_args.start_from DIR measures another model.
"""


def test(arguments: Sequence[str]) -> int:
    """Measure a model and print the table.

    Raises:
        ValueError: an option or a configuration cannot be used.
    """
    parser = argparse.ArgumentParser("nextgpt test", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("-c", "--config", type=Path, metavar="FILE", action="append", required=True,
        help="configuration of the model; repeatable, later ones win")  # fmt: skip
    add("--limit", type=int, metavar="N", help="cases of each row at most (default: all)")
    add("--out", type=Path, metavar="DIR", default=Path("results"), help="default: results")
    add("--seed", type=int, default=0, help="of the choice of cases and of the media")
    add("--archives", type=Path, metavar="DIR", help="packages fetched by hand")
    options, others = parser.parse_known_args(arguments)
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit {options.limit}: measure at least one case")

    from nextgpt.evaluation.material import Material
    from nextgpt.evaluation.report import write_report
    from nextgpt.evaluation.runner import Evaluation
    from nextgpt.generation import NextGPT
    from nextgpt.training.cli import configured
    from nextgpt.training.stage import Stage
    from nextgpt.world.build import build_world

    files = [word for file in options.config for word in ("-c", str(file))]
    stage = configured([*files, *others]).model
    if not isinstance(stage, Stage):
        raise ValueError(f"{options.config[-1]}: configures a part; test measures a whole chain")
    evaluation = Evaluation(
        NextGPT(stage.chain),
        build_world(archives=options.archives),
        Material.load(options.archives),
        options.out,
        options.limit,
        options.seed,
    )
    rows = evaluation.run()
    write_report(rows, evaluation.facts(), options.out)
    return 0
