"""Attention to a smaller map in groups of channels that meet in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from anyformer.layers.attention.spatial_reduction import SpatialReductionAttention
from anyformer.layers.embedding.patch import StridedConv
from anyformer.layers.feedforward.group_linear import GroupLinear, check_groups


class GroupReductionAttention(SpatialReductionAttention):
    """`SpatialReductionAttention` split into groups of channels with heads of their own, and merged by a linear layer.

    Split, transform, merge, as in ResNeXt: queries, keys, values and the reduced map of a group come from its own
    channels. Half of the group encoder of Ju et al. 2022 (APVT), arXiv:2203.00960. The paper leaves open how groups
    are merged: here side by side, then by one linear layer over all channels ("linear"), or by one for each group
    ("concat"), so that groups meet between stages only. With one group it is `SpatialReductionAttention`. The norm of
    the reduced map is over all channels.
    Cost: 2 tokens^2 c / R^rank + (1 + (2 + 2 / R^rank) / groups) tokens c^2 multiply-adds.

    Args:
        dim, heads, reduction, bias, norm, scoring, grid: as `SpatialReductionAttention`'s.
        groups: how many groups; they divide channels and heads.
        merge: from the groups' outputs to the part's.

    Raises:
        OptionError: channels or heads that the groups do not divide.
    """

    name = "group_reduction"
    papers = ("apvt",)
    tiny = {"heads": 2, "reduction": 2, "groups": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        reduction: int = 1,
        groups: int = 4,
        merge: Literal["linear", "concat"] = "linear",
        bias: bool = True,
        grid: Sequence[int | None] = (None, None),
        **options: Any,
    ):
        check_groups(groups, self.name, channels=dim, heads=heads)
        super().__init__(dim, heads=heads, reduction=reduction, bias=bias, grid=grid, **options)
        self.q: nn.Module = GroupLinear(dim, dim, groups, bias)
        self.kv: nn.Module = GroupLinear(dim, 2 * dim, groups, bias, parts=2)
        if reduction > 1:
            self.reduce = StridedConv(
                dim, dim, kernel=reduction, stride=reduction, groups=groups, rank=len(grid), what=self.name
            )
        if merge == "concat":
            self.out: nn.Module = GroupLinear(dim, dim, groups)
