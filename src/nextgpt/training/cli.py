"""LightningCLI for parts and stages: configurations are joined and a stage is chosen here."""

import logging
import re
import tempfile
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from nextgpt.configuration import merged, read_config, staged
from nextgpt.training.allocator import keep_freed_memory
from nextgpt.training.callbacks import FreshNoise
from nextgpt.training.checkup import is_stage, plan_of, refuse_what_cannot_start
from nextgpt.training.stage import Stage
from nextgpt.training.strategies import lost_a_rank


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], str | None, list[str]]:
    """Take the configuration files and the stage out of the arguments.

    Raises:
        ValueError: an option lacks its value.
    """
    files: list[Path] = []
    stage: str | None = None
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, joined, value = word.partition("=")
        if name not in ("-c", "--config", "--stage"):
            rest.append(word)
            continue
        if not joined:
            value = next(words, "")
        if not value:
            raise ValueError(f"{name} needs a value")
        if name == "--stage":
            stage = value
        else:
            files.append(Path(value))
    return files, stage, rest


class ConfiguredCLI(LightningCLI):
    """LightningCLI that keeps runs resumable and tells a stage the configuration of its chain."""

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Add what ``--ckpt_path last`` needs: checkpoints every three minutes, fresh noise."""
        trainer = self._get(self.config_init, "trainer") or Namespace()
        callbacks = [*(trainer.get("callbacks") or []), FreshNoise()]
        if self.subcommand == "fit" and trainer.get("enable_checkpointing") is not False:
            checkpoints = ModelCheckpoint(
                dirpath=trainer.get("default_root_dir"),
                save_last=True,
                save_top_k=0,
                train_time_interval=timedelta(minutes=3),
                enable_version_counter=False,
            )
            callbacks.append(checkpoints)
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def data(self) -> lightning.LightningDataModule:
        """Build the data alone."""
        config = self.config.clone()
        options = config.get(str(self.subcommand), config)
        options.pop("model")
        return self._get(self.parser.instantiate_classes(config), "data")

    def before_instantiate_classes(self) -> None:
        """Refuse a training that would not start, before weights are fetched or loaded."""
        if self.subcommand == "fit" and is_stage(self.config.fit):
            refuse_what_cannot_start(plan_of("this run", self.config.fit, self.data()))

    def instantiate_classes(self) -> None:
        """Build trainer, model and data."""
        super().instantiate_classes()
        if isinstance(self.model, Stage):
            config: Namespace = self._get(self.config, "model")
            self.model.chain_config = config.init_args.chain.as_dict()


def run(arguments: Sequence[str]) -> int:
    """Run ``fit``, ``validate`` or ``predict``; see ``configured`` for options and errors.

    Raises:
        ValueError: also, another rank is gone, and this one cannot go on without it.
    """
    command, *options = arguments
    try:
        configured(options, command)
    except RuntimeError as error:
        if not lost_a_rank(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"another rank of this run is gone; what it wrote last says why ({reason}). Start the "
            "run again with --ckpt_path last"
        ) from error
    return 0


def configured(
    arguments: Sequence[str],
    command: str | None = None,
    cli_class: type[ConfiguredCLI] = ConfiguredCLI,
) -> ConfiguredCLI:
    """Build trainer, model and data as configured, and run a command with them if one is named.

    Options: ``-c FILE`` (repeatable, later wins), ``--stage NAME``, and every key of the
    configuration as a flag, such as ``--trainer.max_steps 10``.

    Raises:
        ValueError: a configuration or an option is not usable.
    """
    keep_freed_memory()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).propagate = False  # NOTE: Lightning has handlers of its own.
    files, stage, rest = split_arguments(arguments)
    config: dict[str, Any] = {}
    for file in files:
        config = merged(config, read_config(file))
    config = staged(config, stage)
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder) / "config.yaml"
        joined.write_text(yaml.safe_dump(config, sort_keys=False))
        # NOTE: Lightning warns when both its arguments and the process's are there.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        words = [command] if command else []
        strict = {"exit_on_error": False}
        try:
            return cli_class(
                lightning.LightningModule,
                lightning.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_kwargs={"overwrite": True},
                parser_kwargs={**strict, command: strict} if command else strict,
                run=command is not None,
                args=[*words, *(["--config", str(joined)] if files else []), *rest],
            )
        except (ArgumentError, MisconfigurationException, ValueError) as error:
            raise ValueError(first_cause(str(error))) from error


def first_cause(message: str) -> str:
    """Take the first cause, and the key it is about, out of jsonargparse's nested account."""
    if message.startswith("unrecognized arguments"):
        return f"{message}; add --print_config to see every key"
    if not message.startswith(("Does not validate", "Parser key")):
        return message
    keys = []
    for line in message.splitlines():
        line = line.strip(" -")
        if key := re.fullmatch(r'Parser key "(.*)":', line):
            keys.append(key[1])
        elif not line.endswith(":") and not line.startswith(("Does not validate", "Subtypes")):
            break
    else:
        return message
    return f"{'.'.join(keys)}: {line}; add --print_config to see every key" if keys else line
