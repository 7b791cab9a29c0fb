"""MLPs in groups of channels that do not meet."""

from __future__ import annotations

from typing import Any

from torch import nn

from anyformer.layers.feedforward.group_linear import GroupLinear, check_groups
from anyformer.layers.feedforward.mlp import MLP


class GroupMLP(MLP):
    """W2 act(W1 x) in each of `groups` groups of channels, side by side. `(..., c)` to the same, each token alone.

    Half of the group encoder of Ju et al. 2022 (APVT), arXiv:2203.00960. With one group it is `MLP`.
    Cost: 2 c hidden / groups multiply-adds a token.

    Args:
        dim: channels.
        groups: how many groups; they divide the channels and the hidden ones.
        options: the others of `MLP`.

    Raises:
        OptionError: channels that the groups do not divide.
    """

    name = "group_mlp"
    papers = ("apvt",)
    tiny = {"groups": 2}

    def __init__(self, dim: int, *, groups: int = 4, **options: Any):
        super().__init__(dim, **options)
        hidden, bias = self.up.out_features, self.up.bias is not None
        check_groups(groups, self.name, channels=dim, hidden=hidden)
        self.up: nn.Module = GroupLinear(dim, hidden, groups, bias)
        self.down: nn.Module = GroupLinear(hidden, dim, groups, bias)
