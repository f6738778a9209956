"""Two processes train like one: DDP and FSDP2, alone and in turns, and when a rank is lost."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from safetensors.torch import load_file
from tiny_chain import tiny_chain
from tiny_training import STEPS, configuration, expected_statistics, expected_trainable, write_world

from nextgpt.cli import main
from nextgpt.training.strategies import FullyShardedStrategy, check

if TYPE_CHECKING:
    from conftest import TinyParts

BATCH_SIZE = 6
SAVED_AT = 3
STAGE = "instruct"
TOLERANCE = 1e-4
"""Of losses, relative. Measured worst case 1e-5: sums are taken in another order, and the first
steps of Adam make much of small differences."""
FILES = ("projections", "signal_rows", "adapter/adapter_model")


@pytest.fixture(scope="module")
def workplace(
    tiny: TinyParts, own_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with ``tiny.yaml``, whose instruct stage starts anew and saves half-way."""
    folder = tmp_path_factory.mktemp("two-ranks")
    config = configuration(tiny, write_world(folder / "world"))
    stage = config["stages"][STAGE]
    stage["model"]["init_args"]["start_from"] = None
    stage["trainer"]["callbacks"] = []
    stage["trainer"]["gradient_clip_val"] = 1.0
    stage["data"]["init_args"] |= {"batch_size": BATCH_SIZE}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def arguments(name: str, *flags: str, callbacks: tuple[dict[str, Any], ...] = ()) -> list[str]:
    """Of ``nextgpt fit`` into a folder of its own, with a checkpoint at step SAVED_AT."""
    saver = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {
            "dirpath": f"runs/{name}/steps",
            "filename": "{step}",
            "every_n_train_steps": SAVED_AT,
            "save_top_k": -1,
        },
    }
    logger = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "runs", "name": name, "version": "log"},
    }
    trainer = {
        "default_root_dir": f"runs/{name}",
        "callbacks": [saver, *callbacks],
        "logger": logger,
    }
    model = {"init_args": {"output": f"runs/{name}/model"}}
    stage = {"model": model, "trainer": trainer}
    Path(f"{name}.yaml").write_text(yaml.safe_dump({"stages": {STAGE: stage}}))
    return ["fit", "-c", "tiny.yaml", "-c", f"{name}.yaml", "--stage", STAGE, *flags]


def start(*words: str) -> subprocess.Popen:
    """Start ``nextgpt`` as people do, with what it says in ``said.txt``."""
    paths = [str(Path(__file__).parents[2] / folder) for folder in ("src", "tests")]
    with Path("said.txt").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "nextgpt.cli", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def two_ranks(strategy: str, name: str, *flags: str) -> None:
    """Train in two processes, with the batches of one."""
    spread = ["--trainer.strategy", strategy, "--trainer.devices", "2"]
    halves = ["--data.init_args.batch_size", str(BATCH_SIZE // 2)]
    run = start(*arguments(name, *spread, *halves, *flags))
    assert run.wait() == 0, Path("said.txt").read_text()


def losses(name: str) -> list[dict[str, float]]:
    """What a run logged, a line a step."""
    with Path(f"runs/{name}/log/metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def checkpoint(name: str) -> str:
    return f"runs/{name}/steps/step={SAVED_AT}.ckpt"


def assert_same(name: str, first_step: int = 0) -> None:
    """Compare a run with that of a single process: all losses, and what was learned."""
    expected = [row for row in losses("single") if row["step"] >= first_step]
    found = losses(name)
    assert len(found) == len(expected) == STEPS + 1 - first_step  # one of them is a validation
    for ours, theirs in zip(found, expected, strict=True):
        # Lightning writes the last value again of what a batch has not; a new run knows none.
        assert {"cross_entropy", "loss", "step"} <= ours.keys() or "validation/loss" in ours
        assert ours == pytest.approx({name: theirs[name] for name in ours}, rel=TOLERANCE)
    for file in FILES:
        ours, theirs = (
            load_file(f"runs/{run}/model/{file}.safetensors") for run in (name, "single")
        )
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert ours[key].shape == value.shape, key


@pytest.fixture(scope="module")
def single(workplace: Path) -> str:
    """One process that trains from beginning to end."""
    assert main(arguments("single")) == 0
    return "single"


@pytest.fixture(scope="module")
def ddp(workplace: Path) -> str:
    two_ranks("ddp", "ddp")
    return "ddp"


@pytest.fixture(scope="module")
def fsdp2(workplace: Path) -> str:
    two_ranks("fsdp2", "fsdp2")
    return "fsdp2"


# Two processes


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks_have_the_losses_of_one(
    single: str, strategy: str, request: pytest.FixtureRequest
) -> None:
    assert_same(request.getfixturevalue(strategy))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_training_checkpoint_holds_what_trains_in_one_piece(
    strategy: str, request: pytest.FixtureRequest
) -> None:
    saved = torch.load(checkpoint(request.getfixturevalue(strategy)), weights_only=True)
    shapes = {name: shape for part in expected_trainable().values() for name, shape in part.items()}
    assert set(saved["state_dict"]) == set(shapes) | expected_statistics()
    for name, shape in shapes.items():
        assert list(saved["state_dict"][name].shape) == shape, name
    (optimizer,) = saved["optimizer_states"]
    averages = [list(state["exp_avg"].shape) for state in optimizer["state"].values()]
    assert sorted(averages) == sorted(shapes.values())


@pytest.mark.slow
def test_fsdp2_goes_on_where_ddp_stopped(single: str, ddp: str) -> None:
    two_ranks("fsdp2", "fsdp2-behind-ddp", "--ckpt_path", checkpoint(ddp))
    assert_same("fsdp2-behind-ddp", SAVED_AT)


@pytest.mark.slow
def test_ddp_goes_on_where_fsdp2_stopped(single: str, fsdp2: str) -> None:
    two_ranks("ddp", "ddp-behind-fsdp2", "--ckpt_path", checkpoint(fsdp2))
    assert_same("ddp-behind-fsdp2", SAVED_AT)


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(single: str, fsdp2: str) -> None:
    assert main(arguments("one-behind-two", "--ckpt_path", checkpoint(fsdp2))) == 0
    assert_same("one-behind-two", SAVED_AT)


def is_running(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run_which_goes_on_from_its_last_checkpoint(
    single: str, rank: int
) -> None:
    name = f"killed-{rank}"
    killer = {
        "class_path": "rank_killer.RankKiller",
        "init_args": {"rank": rank, "step": SAVED_AT + 1},
    }
    spread = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    halves = ["--data.init_args.batch_size", str(BATCH_SIZE // 2)]
    run = start(*arguments(name, *spread, *halves, callbacks=(killer,)))
    try:
        while not Path(f"runs/{name}/log/metrics.csv").exists() and run.poll() is None:
            time.sleep(0.2)
        deadline = time.monotonic() + 60
        while (run.poll() is None or is_running(run.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert run.poll() is not None and not is_running(run.pid)
    finally:
        if is_running(run.pid):
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode != 0
    assert not Path(f"runs/{name}/model").exists()
    said = Path("said.txt").read_text()
    assert "another rank of this run is gone" in said and "--ckpt_path last" in said
    assert main(arguments(f"{name}-resumed", "--ckpt_path", checkpoint(name))) == 0
    assert_same(f"{name}-resumed", SAVED_AT)


# What cannot be used


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_a_strategy_that_saves_frozen_weights_is_refused(tiny: TinyParts, strategy: type) -> None:
    with pytest.raises(ValueError, match=f"{strategy.__name__} .* frozen .*strategy fsdp2"):
        check(strategy(), "32-true", tiny_chain(tiny))


def test_a_precision_that_rounds_what_trains_is_refused(tiny: TinyParts) -> None:
    with pytest.raises(ValueError, match="bf16-true would round what trains; .*dtype: bfloat16"):
        check(FullyShardedStrategy(), "bf16-true", tiny_chain(tiny))


def test_quantised_weights_are_not_sharded(tiny: TinyParts) -> None:
    chain = tiny_chain(tiny)
    chain.language_model.quantization = "4bit"
    check(FullyShardedStrategy(), "32-true", tiny_chain(tiny))
    with pytest.raises(ValueError, match="4bit cannot be sharded; use --trainer.strategy ddp"):
        check(FullyShardedStrategy(), "32-true", chain)


def test_a_strategy_that_is_refused_ends_in_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategy = "lightning.pytorch.strategies.ModelParallelStrategy"
    spread = ["--trainer.strategy.class_path", strategy, "--trainer.devices", "1"]
    assert main(arguments("refused", *spread)) == 1
    assert "nextgpt: ModelParallelStrategy would write the frozen" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is here")
def test_deepspeed_that_is_missing_is_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("deepspeed", "--trainer.strategy", "deepspeed_stage_2")) == 1
    assert "must have DeepSpeed installed" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs DeepSpeed, which needs a GPU")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stage": 2}, "exclude_frozen_parameters: true"),
        ({"stage": 3, "exclude_frozen_parameters": True}, "use --trainer.strategy fsdp2"),
    ],
)
def test_deepspeed_must_leave_frozen_weights_out(
    tiny: TinyParts, options: dict[str, Any], reason: str
) -> None:
    from lightning.pytorch.strategies import DeepSpeedStrategy

    chain = tiny_chain(tiny)
    with pytest.raises(ValueError, match=reason):
        check(DeepSpeedStrategy(**options), "32-true", chain)
    check(DeepSpeedStrategy(stage=2, exclude_frozen_parameters=True), "32-true", chain)
