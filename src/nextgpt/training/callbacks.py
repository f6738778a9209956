"""What happens beside training: sample replies in the log, fresh noise after an interruption."""

import logging
from pathlib import Path

import lightning
import torch

from nextgpt.generation import NextGPT
from nextgpt.media import load_medium
from nextgpt.messages import Conversation
from nextgpt.model import NextGPTModel
from nextgpt.training.strategies import FullyShardedStrategy

logger = logging.getLogger(__name__)


class FreshNoise(lightning.Callback):
    """Lets a resumed training go on with other random numbers than it began with.

    The seed of a configuration is set at every start: without this, each interruption would bring
    the first batches once more, with the same noise on them, and they would be learned by heart.
    """

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Seed by the configuration's seed and the step."""
        if trainer.global_step:
            torch.manual_seed(torch.initial_seed() + trainer.global_step)


class SampleReplies(lightning.Callback):
    """Answers a few questions at every validation; words and media go to the log folder."""

    def __init__(
        self,
        questions: list[str],
        attach: Path | None = None,
        max_new_tokens: int = 60,
    ) -> None:
        """Choose questions.

        Args:
            questions: One conversation each.
            attach: A medium that is attached to every question.
            max_new_tokens: Tokens of a reply at most.
        """
        self.questions = questions
        self.attach = attach
        self.max_new_tokens = max_new_tokens

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Answer all questions with the model as it is now, on one rank.

        A sharded model cannot answer on one rank alone: nothing is asked there.
        """
        sharded = isinstance(trainer.strategy, FullyShardedStrategy)
        if trainer.sanity_checking or sharded or not trainer.is_global_zero:
            return
        mode = pl_module.training
        chain = pl_module.chain
        assert isinstance(chain, NextGPTModel), "the callback is for stages"
        assistant = NextGPT(chain)
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "replies"
        for number, question in enumerate(self.questions):
            attached = [load_medium(self.attach)] if self.attach else []
            conversation = Conversation().user(*attached, question)
            reply = assistant.chat(conversation, max_new_tokens=self.max_new_tokens)
            paths = reply.save(folder / f"step-{trainer.global_step:06d}" / f"{number}")
            logger.info("%s -> %s %s", question, reply.text, [path.name for path in paths[:-1]])
        pl_module.train(mode)
