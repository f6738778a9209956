"""The first stage of BLIP-2: a Q-Former learns what media and captions share, without an LLM."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from nextgpt.bridges import qformer_files
from nextgpt.bridges.contrastive import PairLosses, QFormerHeads
from nextgpt.bridges.qformer import QFormerConnector
from nextgpt.encoders import Encoder
from nextgpt.training.qformer_data import PairData, Pairs
from nextgpt.training.schedule import adamw_with_cosine

logger = logging.getLogger(__name__)


class QFormerStage(lightning.LightningModule):
    """Trains a Q-Former, its text included, and three heads; encoder features stay as they are.

    It writes a directory that ``QFormerConnector`` starts from (``source``) in the next stage,
    where its linear layer to the language model is new. Pairs are told from those of the same
    rank.

    Source: arXiv:2301.12597, section 3.2.
    """

    def __init__(
        self,
        encoder: Encoder,
        connector: Callable[[int, int], QFormerConnector] = QFormerConnector,
        output: Path | None = None,
        embedding_size: int = 256,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.05,
    ) -> None:
        """Prepare the stage.

        Args:
            encoder: Frozen, the one of the chain.
            connector: As in the chain, with a tokenizer; its linear layer is not trained here.
            output: Directory that the Q-Former is written to at the end.
            embedding_size: Width in which media and texts are compared.
            learning_rate: Peak learning rate, after 3% warm-up; falls to zero as a cosine.
            weight_decay: Of AdamW.

        Raises:
            ValueError: the connector reads no text, or the encoder's widths differ.
        """
        super().__init__()
        widths = {encoder.feature_shape(modality)[1] for modality in encoder.modalities}
        if len(widths) != 1:
            raise ValueError(f"one connector needs features of one width, got {sorted(widths)}")
        self.encoder = encoder
        self.qformer = connector(widths.pop(), 1).qformer
        if not self.qformer.reads_text:
            raise ValueError(
                "connector has no tokenizer, so it cannot learn from captions; give it one, such "
                "as tokenizer: hf:google-bert/bert-base-uncased@main"
            )
        self.heads = QFormerHeads(
            self.qformer.hidden_size, self.qformer.start_id + 1, embedding_size
        )
        self.output = output
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.strict_loading = False  # NOTE: the frozen encoder is not in checkpoints, see below.

    def training_step(self, batch: Pairs) -> Tensor:
        """Sum of the three losses, as the paper adds them up."""
        losses = self.heads(self.qformer, *batch)
        return self._log(losses, "", len(batch.captions))

    def validation_step(self, batch: Pairs, batch_idx: int) -> None:
        """The same on held-out pairs and with the same negatives, under ``validation/``."""
        generator = torch.Generator().manual_seed(batch_idx)
        losses = self.heads(self.qformer, *batch, generator)
        self._log(losses, "validation/", len(batch.captions))

    def _log(self, losses: PairLosses, prefix: str, batch_size: int) -> Tensor:
        total = losses.contrast + losses.matching + losses.caption
        logged = {f"{prefix}{name}": value for name, value in losses._asdict().items()}
        logged[f"{prefix}loss"] = total
        self.log_dict(logged, prog_bar=not prefix, batch_size=batch_size, sync_dist=bool(prefix))
        return total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW on the Q-Former and its heads; cosine to zero."""
        return adamw_with_cosine(
            [*self.qformer.parameters(), *self.heads.parameters()],
            self.learning_rate,
            int(self.trainer.estimated_stepping_batches),
            self.weight_decay,
        )

    def on_save_checkpoint(self, saved: dict[str, Any]) -> None:
        """Keep only what trains."""
        state = saved["state_dict"]
        saved["state_dict"] = {k: v for k, v in state.items() if not k.startswith("encoder.")}

    def on_load_checkpoint(self, saved: dict[str, Any]) -> None:
        """Refuse a checkpoint of another Q-Former or of another stage.

        Raises:
            ValueError: naming what differs.
        """
        ours = {name for name in self.state_dict() if not name.startswith("encoder.")}
        if different := sorted(ours ^ set(saved["state_dict"])):
            raise ValueError(
                f"the checkpoint differs from this stage in {', '.join(different[:3])}; resume the "
                "stage that wrote it"
            )

    def on_train_end(self) -> None:
        """Hand the Q-Former on."""
        if self.output is None or not self.trainer.is_global_zero:
            return
        qformer_files.save(self.qformer, self.output)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PairData)
        metrics = self.trainer.callback_metrics
        provenance = {
            "stage_trained": ["qformer"],
            "encoder": self.encoder.fingerprint(),
            "steps": self.trainer.global_step,
            "learning_rate": self.learning_rate,
            "metrics": {name: round(float(value), 5) for name, value in metrics.items()},
            "data": data.provenance(),
        }
        text = json.dumps(provenance, indent=2) + "\n"
        (self.output / "provenance.json").write_text(text, encoding="utf-8")
        logger.info("the Q-Former is in %s", self.output)
