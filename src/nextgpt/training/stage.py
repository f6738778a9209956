"""One stage of training the chain, as a LightningModule."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from nextgpt import checkpoint
from nextgpt.batch import ChainBatch
from nextgpt.collate import collate
from nextgpt.data.datamodule import ChainData
from nextgpt.data.own_words import OwnWords
from nextgpt.generation import NextGPT
from nextgpt.losses import alignment_loss, alignment_weight, divergence
from nextgpt.messages import Conversation
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel, RunStates
from nextgpt.ranks import summed
from nextgpt.training import strategies
from nextgpt.training.schedule import adamw_with_cosine

logger = logging.getLogger(__name__)

Losses = dict[str, tuple[Tensor, Tensor]]
"""Losses of this rank's batch by name, each with how much it counts beside other ranks'."""


class Stage(lightning.LightningModule):
    """Trains some parts of a chain and hands the result on as a checkpoint directory.

    ``encode_align`` trains ``input_projection``; ``decode_align`` trains ``output_projections`` and
    ``signal_rows``; ``instruct`` trains ``lora``, both projections and the rows; ``decode_refine``
    trains ``output_projections``. There the language model gives the same states for the same
    batch, so they are computed once if the conversations come again
    (`ChainData.num_conversations`).
    """

    def __init__(
        self,
        chain: NextGPTModel,
        trains: list[str],
        start_from: Path | None = None,
        grow: bool = False,
        new_bridge: bool = False,
        output: Path | None = None,
        learning_rate: float = 5e-4,
        learning_rates: dict[str, float] | None = None,
        weight_decay: float = 0.0,
        alignment: str = "relative_mse",
        alignment_weight: float = 1.0,
        denoising_weight: float = 0.0,
        embedding_noise: float = 0.0,
        feature_noise: float = 0.0,
        keeps: OwnWords | None = None,
        keep_weight: float = 1.0,
        keep_batch_size: int = 2,
        activation_checkpointing: bool = False,
    ) -> None:
        """Prepare the stage.

        Args:
            chain: All parts.
            trains: Parts that train, of those that the chain names.
            start_from: Checkpoint directory of the stage before.
            grow: Let ``start_from`` lack decoders that the chain has; they are learned anew.
            new_bridge: Learn connector, assembler and fusion anew, whatever those of
                ``start_from``.
            output: Directory that the trained parts are written to at the end.
            learning_rate: Peak learning rate, after 3% warm-up; falls to zero as a cosine.
            learning_rates: Peak learning rate of parts that have one of their own.
            weight_decay: Of AdamW.
            alignment: Kind of the alignment loss: relative_mse, mse, norm or cosine.
            alignment_weight: Factor of the alignment loss beside the cross-entropy.
            denoising_weight: Factor of the loss of the frozen U-Nets, told the projected
                conditioning, at denoising the media asked for; with 0 neither they nor the
                autoencoders are loaded.
            embedding_noise: Alpha of the noise on the words' embeddings (NEFTune,
                arXiv:2310.05914): what is asked is learned, less by which words; none when 0.
            feature_noise: Standard deviation of the noise on the encoder's features, in units of
                their root mean square: what hardly differs between media of training is not what
                they are told apart by, and media unlike them are read better; none when 0.
            keeps: What the language model says without its adapter; with it, every step is held to
                the same distribution of the next word there, so that English is kept.
            keep_weight: Factor of that divergence beside the cross-entropy.
            keep_batch_size: Pieces of ``keeps`` a step.
            activation_checkpointing: Keep only the input of each layer of the language model for
                the backward pass, which computes the rest anew: less memory, a third slower.

        Raises:
            ValueError: a part has a learning rate and does not train, an adapter is to be held
                that does not, or the encoder trains whose features are to be noisy.
        """
        super().__init__()
        self.chain = chain
        self.trains = trains
        self.start_from = start_from
        self.output = output
        self.learning_rate = learning_rate
        self.learning_rates = learning_rates or {}
        self.weight_decay = weight_decay
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.denoising_weight = denoising_weight
        self.embedding_noise = embedding_noise
        self.feature_noise = feature_noise
        self.keeps = keeps
        self.keep_weight = keep_weight
        self.keep_batch_size = keep_batch_size
        if idle := sorted(set(self.learning_rates) - set(trains)):
            raise ValueError(
                f"learning_rates names {', '.join(idle)}, which this stage does not train; it "
                f"trains {', '.join(trains) or 'nothing'}"
            )
        if feature_noise and "encoder" in trains:
            raise ValueError(
                "feature_noise is added to what a frozen encoder made, and the encoder trains; "
                "leave feature_noise out, or encoder out of trains"
            )
        if keeps is not None and "lora" not in trains:
            raise ValueError(
                "keeps holds an adapter to what is said without it, and none trains; add lora to "
                "trains, or leave keeps out"
            )
        self.chain_config: dict[str, Any] = {}
        """The configuration that ``chain`` was built from; set by the command line."""
        self._run_states: dict[bytes, RunStates] = {}
        self.strict_loading = False  # NOTE: frozen weights are not in checkpoints, see below.
        if start_from is not None:
            checkpoint.load_trained(chain, start_from, grow, new_bridge)
        chain.set_trainable(trains)
        if activation_checkpointing:
            chain.language_model.checkpoint_activations()

    @property
    def data(self) -> ChainData:
        """The data the trainer was given."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ChainData)
        return data

    def setup(self, stage: str) -> None:
        """Refuse a trainer that cannot train the chain, or save its trained parts."""
        strategies.check(self.trainer.strategy, self.trainer.precision, self.chain)

    def configure_model(self) -> None:
        """Shard the chain where the strategy does that."""
        strategy = self.trainer.strategy
        if isinstance(strategy, strategies.FullyShardedStrategy):
            strategy.shard(self.chain)

    def on_fit_start(self) -> None:
        """Say what trains; let the words' embeddings be noisy while it does."""
        if self.global_rank:
            # Ranks start alike; noise and dropout of theirs must not be.
            torch.manual_seed(torch.initial_seed() + self.global_rank)
        for part, parameters in self.chain.trainable_parts().items():
            count = sum(parameter.numel() for parameter in parameters.values())
            state = "trains" if part in self.trains else "frozen"
            logger.info("%-18s %11d parameters  %s", part, count, state)
        if self.keeps is not None:
            self.keeps.prepare(self.chain)
        if self.embedding_noise:
            from transformers.integrations.neftune import neftune_post_forward_hook

            words = self.chain.language_model.llm.get_input_embeddings()
            words.neftune_noise_alpha = self.embedding_noise
            self._noise = words.register_forward_hook(neftune_post_forward_hook)
            words.train()

    def on_fit_end(self) -> None:
        """End the noise."""
        if self.embedding_noise:
            self._noise.remove()
            self.chain.language_model.llm.get_input_embeddings().eval()

    def _losses(self, batch: ChainBatch, generator: torch.Generator | None = None) -> Losses:
        output = self.chain(batch)
        num_learned = torch.tensor(len(output.labels), device=self.device)
        losses = {"cross_entropy": (output.cross_entropy, num_learned)}
        return losses | self._projection_losses(output.conditioning, batch, generator)

    def _disturbed(self, batch: ChainBatch) -> ChainBatch:
        if not self.feature_noise:
            return batch
        noisy = {
            modality: found
            + self.feature_noise * found.square().mean().sqrt() * torch.randn_like(found)
            for modality, found in batch.features.items()
        }
        return replace(batch, features=noisy)

    def _projection_losses(
        self,
        conditioning: dict[Modality, Tensor],
        batch: ChainBatch,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Losses of projected conditioning; ``generator`` is of the noise to be taken away."""
        losses = {}
        for modality, predicted in conditioning.items():
            target = batch.targets.get(modality, predicted[:0].detach())
            loss = alignment_loss(predicted, target, self.alignment)
            losses[f"alignment_{modality}"] = loss, alignment_weight(target, self.alignment)
            if self.denoising_weight:
                num_runs = predicted.new_tensor(len(predicted))
                loss = predicted.sum() * 0.0
                if len(predicted):
                    decoder = self.chain.decoders[modality].to(predicted.device)
                    latents = batch.latents[modality]
                    loss = decoder.denoising_loss(predicted, latents, generator).mean()
                losses[f"denoising_{modality}"] = loss, num_runs
        return losses

    def _drift(self, keeps: OwnWords) -> Losses:
        """How far the adapter is from saying nothing of its own where no medium is."""
        first = self.trainer.global_step * self.keep_batch_size
        texts = [keeps.conversation(first + number) for number in range(self.keep_batch_size)]
        plans = [self.chain.prompter.training_plan(text) for text in texts]
        batch = collate(plans, self.data.features).to(self.device)
        logits, frozen = self.chain.drift(batch)
        return {"drift": (divergence(logits, frozen), logits.new_tensor(len(logits)))}

    @property
    def _remembers(self) -> bool:
        """Whether the states at signal runs stay the same and are needed again."""
        repeats = self.data.num_conversations is not None
        return repeats and self.trains == ["output_projections"]

    @torch.no_grad()
    def _remembered(self, batch: ChainBatch) -> RunStates:
        digest = hashlib.sha256(batch.input_ids.cpu().numpy().tobytes())
        for features in batch.features.values():
            digest.update(features.cpu().numpy().tobytes())
        key = digest.digest()
        if key not in self._run_states:
            self._run_states[key] = self.chain.read_runs(batch)
        return self._run_states[key]

    def _total(self, losses: Losses) -> tuple[Tensor, dict[str, Tensor]]:
        """What to go down, and the losses of all ranks' batches together.

        Strategies average the gradients of all ranks. Each loss is weighted so that this average
        is the gradient of one process with all the batches.
        """
        values = torch.stack([loss for loss, _ in losses.values()])
        ours = torch.stack([weight.float() for _, weight in losses.values()])
        weights, sums = summed(torch.stack([ours, ours * values]))
        by_kind = {
            "alignment": self.alignment_weight,
            "denoising": self.denoising_weight,
            "drift": self.keep_weight,
        }
        factors = values.new_tensor([by_kind.get(name.split("_")[0], 1.0) for name in losses])
        divisors = weights.clamp_min(torch.finfo(weights.dtype).tiny)  # None has some of it.
        total = (factors * ours / divisors * values).sum() * self.trainer.world_size
        means = sums / divisors
        found = {
            name: mean for name, mean, weight in zip(losses, means, weights, strict=True) if weight
        }
        return total, found | {"loss": (factors * means).sum()}

    def training_step(self, batch: ChainBatch) -> Tensor:
        """Sum of cross-entropy, alignment, denoising and drift, by the batch's weight.

        Logged are the means of all ranks, without the weight.
        """
        if self._remembers:
            conditioning = self.chain.project_runs(self._remembered(batch))
            losses = self._projection_losses(conditioning, batch)
        else:
            losses = self._losses(self._disturbed(batch))
        if self.keeps is not None:
            losses |= self._drift(self.keeps)
        total, found = self._total(losses)
        self.log_dict(found, prog_bar=True, batch_size=len(batch.input_ids))
        return total * batch.weight

    def validation_step(self, batch: ChainBatch, batch_idx: int) -> None:
        """The same losses on held-out data and with the same noise, under ``validation/``."""
        _, found = self._total(self._losses(batch, torch.Generator().manual_seed(batch_idx)))
        logged = {f"validation/{name}": loss for name, loss in found.items()}
        self.log_dict(logged, batch_size=len(batch.input_ids), sync_dist=True)

    def predict_step(self, batch: tuple[int, Conversation]) -> None:
        """Answer one request: a line of ``replies.jsonl`` and its media in the log folder."""
        number, conversation = batch
        folder = Path(self.trainer.default_root_dir) / "predictions"
        reply = NextGPT(self.chain).chat(conversation)
        line = {"line": number, **reply.to_json(folder, prefix=f"{number:06d}-")}
        with (folder / "replies.jsonl").open("a", encoding="utf-8") as replies:
            replies.write(json.dumps(line, ensure_ascii=False) + "\n")

    def on_predict_start(self) -> None:
        """Start a new file of replies.

        Raises:
            ValueError: several ranks would write it.
        """
        if self.trainer.world_size > 1:
            raise ValueError(
                f"predict answers in one process, not {self.trainer.world_size}; set "
                "--trainer.devices 1"
            )
        folder = Path(self.trainer.default_root_dir) / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "replies.jsonl").write_text("")

    def on_predict_end(self) -> None:
        """Say where the replies are."""
        logger.info("replies are in %s", Path(self.trainer.default_root_dir) / "predictions")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW on the parts that train, each with its learning rate; cosine to zero."""
        parts = self.chain.trainable_parts()
        return adamw_with_cosine(
            [
                {
                    "name": part,
                    "params": list(parts[part].values()),
                    "lr": self.learning_rates.get(part, self.learning_rate),
                }
                for part in self.trains
            ],
            self.learning_rate,
            int(self.trainer.estimated_stepping_batches),
            self.weight_decay,
        )

    def on_save_checkpoint(self, saved: dict[str, Any]) -> None:
        """Keep only what trains."""
        trained = {f"chain.{name}" for name in checkpoint.trained_state(self.chain)}
        saved["state_dict"] = {k: v for k, v in saved["state_dict"].items() if k in trained}

    def on_load_checkpoint(self, saved: dict[str, Any]) -> None:
        """Refuse a checkpoint of another stage or shape.

        Raises:
            ValueError: naming the keys that differ.
        """
        ours = {f"chain.{name}" for name in checkpoint.trained_state(self.chain)}
        if different := sorted(ours ^ set(saved["state_dict"])):
            raise ValueError(
                f"the checkpoint holds other parts than this stage trains ({', '.join(different)})"
                "; resume the stage that wrote it"
            )

    def on_train_end(self) -> None:
        """Hand the trained parts on."""
        if self.output is None:
            return
        metrics = {
            name: round(float(value), 5) for name, value in self.trainer.callback_metrics.items()
        }
        provenance = {
            "stage_trained": self.trains,
            "parent": str(self.start_from) if self.start_from else None,
            "steps": self.trainer.global_step,
            "learning_rate": self.learning_rate,
            "learning_rates": self.learning_rates,
            "metrics": metrics,
            "data": self.data.provenance(),
            "keeps": self.keeps and self.keeps.provenance(),
            "earlier": self._earlier(),
        }
        with strategies.in_one_piece(self.chain):
            if self.trainer.is_global_zero:
                checkpoint.save(self.chain, self.output, self.chain_config, provenance)
                logger.info("trained parts are in %s", self.output)

    def _earlier(self) -> list[dict[str, Any]]:
        """What the trainings before this one wrote, the first one first."""
        if self.start_from is None:
            return []
        record = json.loads((self.start_from / "provenance.json").read_text())
        earlier = record.pop("earlier", [])
        for shared in ("language_model", "adapter", "versions"):
            record.pop(shared, None)
        return [*earlier, record]
