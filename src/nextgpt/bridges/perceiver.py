"""Any number of features to a fixed number of tokens that ask for what they want."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nextgpt.bridges.attention import CrossAttention, feed_forward
from nextgpt.bridges.connectors import Connector
from nextgpt.layout import Layout


class PerceiverResampler(Connector):
    """Learned latents attend to the features and to themselves, again and again.

    The tokens are as wide as the features: they are for a fusion, which looks at them from inside
    of the language model.

    Source: arXiv:2204.14198 (Flamingo), perceiver resampler.
    """

    output_size: int
    """Width of the tokens."""
    frame_times: Tensor
    """(F, D_enc) learned vectors; none without ``max_frames``."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        num_latents: int = 64,
        depth: int = 6,
        head_size: int = 64,
        num_heads: int = 8,
        max_frames: int | None = None,
    ) -> None:
        """Build the layers.

        Args:
            input_size: Width of the features, and of the tokens.
            output_size: Width of the language model, which decides nothing here.
            num_latents: Tokens that come out.
            depth: Layers of attention and feed-forward.
            head_size: Width of a head.
            num_heads: Attention heads.
            max_frames: Frames of a video at most, each of which gets a learned vector that says
                when it is; without, the order of frames is not known.

        Raises:
            ValueError: there are no latents, layers or frames.
        """
        super().__init__()
        sizes = {"num_latents": num_latents, "depth": depth, "max_frames": max_frames}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}: give 1 or more")
        self.output_size = input_size
        # NOTE: small, or the norm at the end makes tokens of next to nothing but latents.
        self.latents = nn.Parameter(0.02 * torch.randn(num_latents, input_size))
        if max_frames is None:
            self.register_buffer("frame_times", torch.zeros(0, input_size), persistent=False)
        else:
            self.frame_times = nn.Parameter(torch.randn(max_frames, input_size))
        self.layers = nn.ModuleList(_Layer(input_size, head_size, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(input_size)

    def num_tokens(self, num_features: int) -> int:
        """As many as latents, whatever the number of features."""
        return len(self.latents)

    def connect(
        self, features: Tensor, layouts: Sequence[Layout], texts: Sequence[str] | None
    ) -> Tensor:
        """Map the features of several media; views of several frames know the frames' order.

        Args:
            features: (V, F * N, D_enc), the features of a view's F frames one behind the other.
            layouts: Of the media; V views in all.
            texts: Not looked at.

        Returns:
            (V, M, D_enc).

        Raises:
            ValueError: a view has more frames than ``max_frames``.
        """
        frames = [each.frames_per_view for each in layouts for _ in range(each.num_views)]
        if len(self.frame_times) and max(frames, default=1) > 1:
            times = {number: self._times(number, features.shape[1]) for number in set(frames)}
            features = features + torch.stack([times[number] for number in frames])
        return self(features)

    def _times(self, num_frames: int, num_features: int) -> Tensor:
        """What is added to the features of a view, (F * N, D_enc)."""
        if num_frames > len(self.frame_times):
            raise ValueError(
                f"a medium has {num_frames} frames, more than max_frames {len(self.frame_times)}; "
                "show fewer frames (num_frames of the partition) or raise max_frames"
            )
        if num_frames == 1:
            return torch.zeros_like(self.frame_times[:1]).expand(num_features, -1)
        assert num_features % num_frames == 0, "all frames have as many features"
        return self.frame_times[:num_frames].repeat_interleave(num_features // num_frames, dim=0)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, M, D_enc)."""
        # None of the frames' times takes part, so that they have a gradient where no video is.
        latents = self.latents + self.frame_times[:0].sum()
        latents = latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(latents, features)
        return self.norm(latents)


class _Layer(nn.Module):
    """Attention of latents to features and latents, and a feed-forward layer."""

    def __init__(self, size: int, head_size: int, num_heads: int) -> None:
        super().__init__()
        self.latents_norm = nn.LayerNorm(size)
        self.features_norm = nn.LayerNorm(size)
        self.attention = CrossAttention(size, size, head_size, num_heads)
        self.feed_forward = feed_forward(size)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        queries = self.latents_norm(latents)
        seen = torch.cat([self.features_norm(features), queries], dim=1)
        latents = latents + self.attention(queries, self.attention.keys_values(seen))
        return latents + self.feed_forward(latents)
