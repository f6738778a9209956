"""How a stage is spread over processes: FSDP2 that saves what trains, and what cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
    StrategyRegistry,
)
from torch import Tensor, nn
from torch.distributed import DistError
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from nextgpt.model import NextGPTModel


class FullyShardedStrategy(ModelParallelStrategy):
    """FSDP2: every rank holds its share of all weights; layers are put together as they compute.

    Called ``fsdp2`` on the command line. Checkpoints hold what trains, in one file and in one
    piece, like those of every other strategy: a run goes on under another one, or alone.
    """

    def __init__(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        """Prepare.

        Args:
            timeout: How long ranks wait for each other.
        """
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    lightning_restore_optimizer = True  # It takes the plain state, see below.

    def setup_environment(self) -> None:
        """Shard over all ranks of all nodes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, chain: NextGPTModel) -> None:
        """Split the weights of the language model's layers, the projections and all the rest.

        The encoder stays whole: its features are computed by whichever rank needs them.
        """
        mesh = self.device_mesh["data_parallel"]
        llm = chain.language_model.llm
        layers = [m for m in llm.modules() if type(m).__name__ in (llm._no_split_modules or ())]
        for module in [*layers, *chain.output_projections.values()]:
            fully_shard(module, mesh=mesh)
        fully_shard(chain, mesh=mesh, ignored_params=set(chain.encoder.parameters()))
        for method in ("read_runs", "project_runs"):
            register_fsdp_forward_method(chain, method)
        # NOTE: it warns of outputs that would be changed in place; none is.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        if mesh.device_type == "cpu":
            assert isinstance(chain, FSDPModule), "fully_shard has made it one"
            chain.set_force_sum_reduction_for_comms(True)  # NOTE: gloo cannot average.

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Collect all but the frozen weights, in one piece."""
        assert self.model is not None
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        state = self.model.state_dict()
        return {name: _whole(value) for name, value in state.items() if name not in frozen}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read a checkpoint as every other strategy does."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each rank its share of the trained weights."""
        assert self.model is not None
        ours = self.model.state_dict()
        for name, value in checkpoint["state_dict"].items():
            ours[name].copy_(_share(value, ours[name]))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Collect the state that the same optimizer would have in a single process."""
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return _mapped(state, lambda index, value: _whole(value))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each rank its share of the optimizers' states."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]

            def share(index: int, value: Any, parameters: list[Tensor] = parameters) -> Any:
                like = parameters[index]
                return _share(value, like) if value.shape == like.shape else value

            optimizer.load_state_dict(_mapped(state, share))


StrategyRegistry.register("fsdp2", FullyShardedStrategy, description=FullyShardedStrategy.__doc__)


def check(strategy: Strategy, precision: str, chain: NextGPTModel) -> None:
    """Refuse what cannot train a chain, or cannot save the trained parts alone.

    Raises:
        ValueError: saying what to use instead.
    """
    sharded = isinstance(strategy, FullyShardedStrategy)
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy) and not sharded:
        raise ValueError(
            f"{type(strategy).__name__} would write the frozen weights into every checkpoint; use "
            "--trainer.strategy fsdp2"
        )
    if isinstance(strategy, DeepSpeedStrategy):
        if strategy.zero_stage_3:
            raise ValueError(
                "stage 3 of DeepSpeed leaves no rank with the trained parts in one piece; use "
                "--trainer.strategy fsdp2, which shards as much, or stage 2"
            )
        if not strategy.exclude_frozen_parameters:
            raise ValueError(
                "DeepSpeed would write the frozen weights into every checkpoint; set "
                "trainer.strategy.init_args.exclude_frozen_parameters: true"
            )
    if precision in ("bf16-true", "16-true"):
        raise ValueError(
            f"precision {precision} would round what trains; hold the frozen weights alone in 16 "
            "bits, with model.init_args.chain.language_model.dtype: bfloat16"
        )
    if sharded and any(parameter.requires_grad for parameter in chain.encoder.parameters()):
        raise ValueError(
            "the encoder is not sharded and cannot train under fsdp2; use --trainer.strategy ddp"
        )
    if sharded and chain.language_model.quantization:
        raise ValueError(
            f"weights in {chain.language_model.quantization} cannot be sharded; use "
            "--trainer.strategy ddp, or shard them in dtype: bfloat16"
        )


def lost_a_rank(error: RuntimeError) -> bool:
    """Tell whether an error means that another rank cannot be reached any more."""
    return isinstance(error, DistError) or "gloo/transport" in str(error)


@contextmanager
def in_one_piece(chain: NextGPTModel) -> Iterator[None]:
    """Put together on every rank what trains, if it is sharded, inside the block."""
    for module in chain.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    shares = [
        (module, name, parameter)
        for module in chain.modules()
        for name, parameter in module._parameters.items()
        if isinstance(parameter, DTensor) and parameter.requires_grad
    ]
    try:
        for module, name, parameter in shares:
            module._parameters[name] = nn.Parameter(_whole(parameter))
        yield
    finally:
        for module, name, parameter in shares:
            module._parameters[name] = parameter


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _share(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    # Every rank has read the whole, so that none has to send it.
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def _mapped(state: dict[str, Any], change: Any) -> dict[str, Any]:
    """Copy an optimizer's state, with ``change`` applied to index and value of every tensor."""
    changed = {
        index: {
            name: change(index, value) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": changed}
