"""Gated cross-attention: the layers of a frozen language model look at media beside its text."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from nextgpt.bridges.assembly import Assembler
from nextgpt.bridges.attention import CrossAttention, feed_forward
from nextgpt.bridges.fusion import Fusion, MediaContext
from nextgpt.layout import Layout

LookBack = Literal["last", "all"]


class GatedCrossAttention(Fusion):
    """Before every n-th layer: attention to media and a feed-forward layer, each behind a gate.

    With closed gates the language model is what it was, bit for bit. The parameters may be of
    another type than the language model, whose states keep theirs.

    Source: arXiv:2204.14198 (Flamingo), GATED XATTN-DENSE.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        media_size: int,
        every_n: int = 4,
        head_size: int = 64,
        num_heads: int = 8,
        look_back: LookBack = "last",
        initial_gate: float = 0.0,
    ) -> None:
        """Build the layers.

        Args:
            hidden_size: Width of the language model.
            num_layers: Its layers.
            media_size: Width of the connector's tokens.
            every_n: Stands before the n-th layer, the 2n-th and so on.
            head_size: Width of a head.
            num_heads: Attention heads.
            look_back: What a token attends to: the ``last`` medium before it, or ``all`` of them.
            initial_gate: What the gates start from, before their tanh. Closed ones, 0, leave the
                language model as it was; they open late, as what attention finds is noise at first.

        Raises:
            ValueError: it would stand before no layer, or ``look_back`` is unknown.
        """
        super().__init__()
        if not 1 <= every_n <= num_layers:
            raise ValueError(
                f"every_n is {every_n}: give 1 to {num_layers}, the layers of the language model"
            )
        if look_back not in get_args(LookBack):
            raise ValueError(
                f"look_back {look_back!r} is unknown; use one of {', '.join(get_args(LookBack))}"
            )
        self.num_layers = num_layers
        self.media_size = media_size
        self.every_n = every_n
        self.layers = nn.ModuleList(
            GatedLayer(hidden_size, media_size, head_size, num_heads, look_back, initial_gate)
            for _ in range(num_layers // every_n)
        )
        self._hooks: list[RemovableHandle] = []

    def _attach(self, layers: nn.ModuleList) -> None:
        if len(layers) != self.num_layers:
            raise ValueError(
                f"the language model has {len(layers)} layers, {type(self).__name__} was built for "
                f"{self.num_layers}"
            )
        self._hooks = [
            layer.register_forward_pre_hook(partial(self._look, gated), with_kwargs=True)
            for layer, gated in zip(
                layers[self.every_n - 1 :: self.every_n], self.layers, strict=True
            )
        ]

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _look(
        self, gated: nn.Module, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Change the states that a layer of the language model is given."""
        if self.context is None:
            return None
        states, *others = args
        if getattr(layer, "gradient_checkpointing", False) and layer.training:
            # The hooks stand outside of what the layer itself computes anew.
            states = checkpoint(gated, states, self.context, use_reentrant=False)
        else:
            states = gated(states, self.context)
        return (states, *others), kwargs


class GatedLayer(nn.Module):
    """What stands before one layer of the language model."""

    def __init__(
        self,
        hidden_size: int,
        media_size: int,
        head_size: int,
        num_heads: int,
        look_back: LookBack,
        initial_gate: float,
    ) -> None:
        """Build it; see ``GatedCrossAttention``."""
        super().__init__()
        self.looks_at_all = look_back == "all"
        self.norm = nn.LayerNorm(hidden_size)
        self.attention = CrossAttention(hidden_size, media_size, head_size, num_heads)
        self.feed_forward = feed_forward(hidden_size)
        # NOTE: of one dimension, since fully sharded training takes no parameters without.
        self.attention_gate = nn.Parameter(torch.full((1,), float(initial_gate)))
        self.feed_forward_gate = nn.Parameter(torch.full((1,), float(initial_gate)))

    def forward(self, states: Tensor, context: MediaContext) -> Tensor:
        """Let (B, T, D) states look at the media of the same rows."""
        assert context.times.shape == states.shape[:2], "the context is that of another pass"
        seen = states.to(self.attention_gate.dtype)
        attended = self.attention(self.norm(seen), self._media(context), self._mask(context))
        seen = seen + self.attention_gate.tanh() * attended
        seen = seen + self.feed_forward_gate.tanh() * self.feed_forward(seen)
        return seen.to(states.dtype)

    def _media(self, context: MediaContext) -> tuple[Tensor, Tensor]:
        """Keys and values of all media, (B, H, K * M, D_head) each."""
        trains = torch.is_grad_enabled()
        if not trains and self in context.kept:
            return context.kept[self]
        tokens = _some(context.tokens).flatten(1, 2).to(self.attention_gate.dtype)
        keys_values = self.attention.keys_values(tokens)
        if not trains:
            context.kept[self] = keys_values
        return keys_values

    def _mask(self, context: MediaContext) -> Tensor:
        """Which tokens each position attends to, (B, T, K * M) bool."""
        _, num_media, num_tokens, _ = _some(context.tokens).shape
        numbers = torch.arange(1, num_media + 1, device=context.times.device)
        times = context.times.unsqueeze(-1)
        looks = times >= numbers if self.looks_at_all else times == numbers
        return looks.repeat_interleave(num_tokens, dim=-1)


def _some(tokens: Tensor) -> Tensor:
    """(B, K, M, D) tokens; where K is 0 one medium of zeros, at which nobody looks."""
    # Attention without a single key is something that fused kernels need not take.
    return tokens if tokens.shape[1] else nn.functional.pad(tokens, (0, 0, 0, 0, 0, 1))


class Beside(Assembler):
    """One learned vector for a medium, the embedding of ``<image>``: its tokens go to a fusion."""

    def __init__(self, output_size: int) -> None:
        """Draw the vector.

        Args:
            output_size: Width of the language model.
        """
        super().__init__(output_size, num_vectors=1)

    def order(self, layout: Layout, num_view_tokens: int) -> list[int]:
        """The learned vector alone."""
        return [-1]

    def forward(self, tokens: Tensor, layouts: Sequence[Layout]) -> Tensor:
        """Repeat the vector for every medium, (L, D); the tokens may have another width."""
        return self.vectors.to(tokens.dtype).expand(len(layouts), -1)
