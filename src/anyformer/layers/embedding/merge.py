"""Patch merging: neighbouring tokens side by side, then one linear map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec


class PatchMerging(Part):
    """2 x 2 neighbours (2^rank) side by side, normed, mapped to `dim`: `(b, *grid, c)` to `(b, *grid / 2, dim)`.

    Liu et al. 2021 (Swin), arXiv:2103.14030, section 3.1; `order` "project_first" norms after the map (Swin V2).
    A side that is odd is padded with zeros.
    """

    name = "merge"
    kind = "downsample"
    papers = ("swin",)
    tiny = {"inputs": 8}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        norm: Spec = Spec("layernorm"),
        order: Literal["norm_first", "project_first"] = "norm_first",
        rank: int = 2,
    ):
        super().__init__()
        wide = inputs * 2**rank
        self.order = order
        self.norm = build(norm, "norm", dim=wide if order == "norm_first" else dim)
        self.project = init.linear(wide, dim, bias=False)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(math.ceil(s / 2) for s in size)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *half d"]:
        size = x.shape[1:-1]
        rank = len(size)
        if any(s % 2 for s in size):
            x = nn.functional.pad(x, (0, 0, *(n for s in reversed(size) for n in (0, s % 2))))
        grid = self.grid(size)
        x = x.reshape(len(x), *(n for g in grid for n in (g, 2)), x.shape[-1])
        # The authors' order of the neighbours: the first axis moves fastest.
        x = x.permute(0, *range(1, 2 * rank, 2), *range(2 * rank, 0, -2), 2 * rank + 1).flatten(rank + 1)
        return self.project(self.norm(x)) if self.order == "norm_first" else self.norm(self.project(x))
