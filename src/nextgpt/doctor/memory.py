"""Memory of a training step, measured on the meta device: shapes and lifetimes without numbers."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nextgpt.batch import ChainBatch
from nextgpt.decoders import Decoder
from nextgpt.language_model import LanguageModel
from nextgpt.losses import caption_cross_entropy
from nextgpt.modality import Modality
from nextgpt.model import NextGPTModel

PICTURE_SIZE = (1024, 768)
"""Width and height in pixels of a picture where its size decides into how many tiles it is cut."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside of it that are alive, and their peak.

    A tensor counts until its storage goes; one that was there before does not count. Where code
    asks for a number and there is none, the answer is yes: masks that are asked about are full.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return True
        result = func(*args, **(kwargs or {}))
        known = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if _is(each)}
        for tensor in filter(_is, tree_leaves(result)):
            storage = tensor.untyped_storage()
            key = id(storage)
            if key in self._sizes or key in known:
                continue
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key)
        return result

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _is(value: Any) -> bool:
    return isinstance(value, Tensor)


class FusedAttention(TorchFunctionMode):
    """Lets attention on the meta device be the fused kernel that every real device has.

    Else it falls apart into products whose scores, T x T a head, would be counted.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _fused(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(repeats, dim=-3) for each in (key, value))
    if query.ndim != 4:  # Attention over nothing but positions has no heads.
        query, key, value = (each.unsqueeze(0) for each in (query, key, value))
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, 0.0, is_causal, scale=scale)[0]


Models = Mapping[Modality, Mapping[str, nn.Module]]
"""The models of every decoder, by the names in its pipeline."""

DENOISING = ("text_encoder", "unet", "vae")
"""Models of a decoder that a denoising loss loads: for targets, the loss itself and latents."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device while a stage trains."""

    weights: int
    optimizer: int
    gradients: int
    activations: int
    """What a forward pass keeps for the backward pass, and what both need besides."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.gradients + self.activations


def num_bytes(module: nn.Module, dtype: torch.dtype | None = None) -> int:
    """Bytes of a module's parameters and buffers, in another precision where one is named."""
    return sum(
        tensor.numel() * (dtype or tensor.dtype).itemsize
        if tensor.is_floating_point()
        else tensor.nbytes
        for tensor in (*module.parameters(), *module.buffers())
    )


def spared_bytes(language_model: LanguageModel, dtype: torch.dtype | None = None) -> int:
    """Bytes that quantization takes off the frozen weights, as bitsandbytes holds them.

    It takes all linear layers but the output table. In 8 bits a row has one float32 scale; in 4
    bits 64 weights share one.

    Args:
        language_model: Without weights, or in full precision.
        dtype: Precision that the weights are held in otherwise, where not their own.
    """
    if language_model.quantization is None:
        return 0
    spared = 0
    for name, layer in language_model.llm.named_modules():
        is_table = layer is language_model.llm.get_output_embeddings()
        if not isinstance(layer, nn.Linear) or is_table or ".lora_" in name:
            continue
        count = layer.weight.numel()
        if language_model.quantization == "8bit":
            held = count + 4 * layer.out_features
        else:
            held = math.ceil(count / 2) + 4 * math.ceil(count / 64)
        spared += count * (dtype or layer.weight.dtype).itemsize - held
    return spared


def training_memory(
    chain: NextGPTModel,
    trains: list[str],
    batch_size: int,
    length: int,
    precision: str,
    models: Models | None = None,
    checkpointing: bool = False,
) -> Memory:
    """Measure one step of a chain without weights.

    Args:
        chain: On the meta device; stays as it is.
        trains: Parts that train.
        batch_size: Conversations a step.
        length: Tokens of each, all of which count as learned: the worst case.
        precision: Lightning's name, such as "32-true" or "bf16-mixed".
        models: Those of the chain's decoders where there is a denoising loss; are brought into
            their decoder's precision.
        checkpointing: Whether the language model keeps only the input of each layer.
    """
    models = models or {}
    for modality, parts in models.items():
        unet = parts["unet"].eval().requires_grad_(False)
        nn.Module.to(unet, chain.decoders[modality].dtype)  # NOTE: that of diffusers talks.
    chain.set_trainable(trains)
    names = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32, "64": torch.float64}
    number, _, kind = precision.partition("-")
    dtype = names.get(number, torch.float32)
    held = dtype if kind == "true" and dtype != torch.float32 else None
    trained = [p for p in chain.parameters() if p.requires_grad]
    gradients = sum(p.numel() * (held or p.dtype).itemsize for p in trained)
    with _computing_in(chain, dtype if dtype.itemsize < 4 else None, checkpointing):
        activations = step_bytes(chain, trains, batch_size, length, models)
    weights = num_bytes(chain, held) - spared_bytes(chain.language_model, held)
    weights += sum(
        num_bytes(parts[name], chain.decoders[modality].dtype)
        for modality, parts in models.items()
        for name in DENOISING
    )
    # AdamW keeps two moments of every trained parameter.
    return Memory(weights, 2 * gradients, gradients, activations)


@contextmanager
def _computing_in(
    chain: NextGPTModel, dtype: torch.dtype | None, checkpointing: bool
) -> Iterator[None]:
    """Hold the language model in the precision of autocast, which there is none of on meta."""
    llm = chain.language_model.llm
    if checkpointing:
        chain.language_model.checkpoint_activations()
        # NOTE: what a backward pass computes anew is out of reach of modes around it.
        anew = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), FusedAttention())}
        llm.activation_checkpointing_enable(anew)
    parameters = list(llm.parameters())
    before = [parameter.data for parameter in parameters]
    for parameter in parameters:
        parameter.data = parameter.data.to(dtype or parameter.dtype)
    try:
        yield
    finally:
        for parameter, data in zip(parameters, before, strict=True):
            parameter.data = data
        if checkpointing:
            llm.activation_checkpointing_disable()


def step_bytes(
    chain: NextGPTModel,
    trains: list[str],
    batch_size: int,
    length: int,
    models: Models | None = None,
) -> int:
    """Bytes at the peak of a forward and backward pass, but for weights and gradients.

    Arguments are those of `training_memory`; the models are in their decoders' precision.
    """
    batch = _batch(chain, trains, batch_size, length)
    chain.train()
    chain.output_projections.eval()  # NOTE: following statistics reads numbers; nothing is kept.
    with FusedAttention(), torch.enable_grad(), LiveBytes() as bytes_:
        embeds, context = chain.assemble(batch)
        states = chain.read(embeds, batch.attention_mask, context)
        logits = chain.language_model.logits(states).flatten(0, 1)
        loss = caption_cross_entropy(logits, batch.labels.flatten())
        del logits
        for modality, runs in batch.runs.items():
            at = (runs[:, :1], runs[:, 1:] + torch.arange(_run_length(chain, modality)))
            conditioning = chain.project(modality, states[at], embeds[at])
            loss = loss + conditioning.square().mean()
            if models:
                unet = models[modality]["unet"]
                loss = loss + _denoised(chain.decoders[modality], unet, conditioning)
        if loss.requires_grad:
            loss.backward()
    gradients = 0
    for parameter in chain.parameters():
        if parameter.grad is not None:
            gradients += parameter.grad.nbytes
            parameter.grad = None
    return max(0, bytes_.peak - gradients)


def _denoised(decoder: Decoder, unet: nn.Module, conditioning: Tensor) -> Tensor:
    """A scalar behind a decoder's U-Net, as of the denoising loss."""
    count = len(conditioning)
    latents = torch.empty(count, *decoder.latent_shape(), dtype=decoder.dtype)
    predicted = decoder.denoise(unet, latents, torch.zeros(count), conditioning)
    return predicted.float().square().mean()


def _run_length(chain: NextGPTModel, modality: Any) -> int:
    return chain.language_model.signals.num_signal_tokens[modality]


def _batch(chain: NextGPTModel, trains: list[str], batch_size: int, length: int) -> ChainBatch:
    """Full sequences: a medium of each kind in, and a run of each kind, where its part trains."""
    tokens = torch.zeros(batch_size, length, dtype=torch.long)
    batch = ChainBatch(tokens, torch.ones_like(tokens), tokens)
    starts = torch.zeros(batch_size, 2, dtype=torch.long)
    if "input_projection" in trains:
        for modality in chain.reads:
            layout = chain.layout(modality, PICTURE_SIZE)
            if chain.num_media_tokens(modality, layout) > length:
                continue
            batch.slots[modality] = starts
            batch.layouts[modality] = [layout] * batch_size
            batch.texts[modality] = [""] * batch_size
            shape = chain.encoder.feature_shape(chain.partition.seen_as(modality))
            batch.features[modality] = torch.empty(batch_size * layout.num_encoded, *shape)
    if "output_projections" in trains:
        batch.runs = {Modality(name): starts for name in chain.output_projections}
    return batch
