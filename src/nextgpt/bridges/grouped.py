"""Many features to a few tokens by grouping what belongs together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nextgpt.bridges.connectors import Connector


class GroupedConnector(Connector):
    """GroupViT between two linear layers: features are assigned to groups, groups become tokens.

    In each stage but the last, learned group tokens stand beside the features and attend to them;
    then every feature is assigned to one of as many groups, which are the features of the next
    stage. The choice is hard; gradients pass straight through it. While the connector trains it is
    drawn with Gumbel noise, otherwise the likeliest group is taken, so that equal features give
    equal tokens.

    Source: arXiv:2202.11094; sizes of the default are those of arXiv:2309.05519, second version.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 512,
        num_heads: int = 8,
        depths: Sequence[int] = (6, 3, 3),
        num_groups: Sequence[int] = (64, 8),
    ) -> None:
        """Build the connector.

        Args:
            input_size: Width of the features.
            output_size: Width of the language model.
            hidden_size: Width inside; feed-forward layers are four times as wide.
            num_heads: Attention heads.
            depths: Transformer layers of each stage.
            num_groups: Groups after each stage but the last; the last number is that of tokens.

        Raises:
            ValueError: there is not one number of groups for each stage but the last, or the heads
                do not divide the width.
        """
        from transformers import GroupViTVisionConfig
        from transformers.models.groupvit.modeling_groupvit import (
            GroupViTAssignAttention,
            GroupViTAttention,
            GroupViTVisionEncoder,
        )

        super().__init__()
        self.output_size = output_size
        if not num_groups or len(num_groups) != len(depths) - 1:
            raise ValueError(
                f"depths {tuple(depths)} are {len(depths)} stages, num_groups {tuple(num_groups)} "
                f"are for {len(num_groups) + 1}; give one number of groups for each stage but the "
                "last"
            )
        if hidden_size % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide hidden_size {hidden_size}")
        self.num_outputs = num_groups[-1]
        self.input = nn.Linear(input_size, hidden_size)
        self.encoder = GroupViTVisionEncoder(
            GroupViTVisionConfig(
                hidden_size=hidden_size,
                intermediate_size=4 * hidden_size,
                num_attention_heads=num_heads,
                depths=list(depths),
                num_group_tokens=[*num_groups, 0],
                num_output_groups=[*num_groups, 0],
            )
        )
        for module in self.encoder.modules():
            if isinstance(module, GroupViTAttention | GroupViTAssignAttention):
                for projection in (module.q_proj, module.k_proj, module.v_proj):
                    projection.bias = None
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stage in self.encoder.stages[:-1]:
            # NOTE: zeros, as transformers leaves them, would make all tokens of a stage alike.
            nn.init.trunc_normal_(stage.group_token, std=0.02)
        self.norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, output_size)

    def num_tokens(self, num_features: int) -> int:
        """As many as the last stage has groups, whatever the number of features."""
        return self.num_outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, N, D_enc) to (B, M, D_lm)."""
        # NOTE: decided here, because freezing after train() or without it calls nothing.
        self.encoder.train(self.training and self.input.weight.requires_grad)
        groups = self.encoder(self.input(features), return_dict=True).last_hidden_state
        assert isinstance(groups, torch.Tensor)
        return self.output(self.norm(groups))
