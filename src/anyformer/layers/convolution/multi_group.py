"""One convolution, trained as the sum of several in different groups of channels, and folded to one for inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


def spread(branch: StridedConv, groups: int) -> Tensor:
    """A convolution's weights as those of one in fewer groups, `groups`, which divide its own; zeros between."""
    outputs, inputs = branch.weight.shape[:2]
    ratio = branch.groups // groups
    found = branch.weight.new_zeros(outputs, inputs * ratio, *branch.weight.shape[2:])
    for group, rows in enumerate(torch.arange(outputs, device=branch.weight.device).chunk(branch.groups)):
        first = group % ratio * inputs
        found[rows, first : first + inputs] = branch.weight[rows]
    return found


class MultiGroupConv(nn.Module):
    """sum_g norm(conv in g groups of channels): `(b, *grid, inputs)` to `(b, *grid, dim)`.

    Convolutional multi-group reparameterization ("gMLP") of Tan et al. 2023 (FMViT), arXiv:2311.05707: branches that
    look at all channels and at groups of them are trained side by side, and are one convolution for inference
    (`methods/compression/reparameterization.py`), in as many groups as divide those of all branches.
    Cost: tokens inputs dim kernel^rank sum(1 / g) multiply-adds, 1 / gcd(groups) of them when folded.

    Args:
        inputs, dim: channels in and out.
        kernel: side of the convolutions; odd.
        groups: of each branch; they divide both numbers of channels.
        norm: after each branch.
        rank: axes of the grid.
        part: who asks, for messages.

    Raises:
        OptionError: no branch; groups that do not divide the channels; an even kernel.
        FitError: folding a second time, or before the norms were folded.
    """

    folds: ClassVar[dict[str, str]] = {"branches": "norms"}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernel: int = 1,
        groups: Sequence[int] = (1, 2),
        norm: Spec = Spec("batchnorm"),
        rank: int = 2,
        part: str = "multi-group convolution",
    ):
        super().__init__()
        if not groups or kernel < 1 or kernel % 2 == 0 or any(g < 1 or inputs % g or dim % g for g in groups):
            raise OptionError(
                f"{part}: a branch for each of groups, which divide the {inputs} channels in and {dim} out, and an odd "
                f"kernel; given groups={tuple(groups)}, kernel={kernel}."
            )
        self.branches = nn.ModuleList(
            StridedConv(
                inputs, dim, kernel=kernel, stride=1, padding=kernel // 2, groups=g, bias=False,
                std=(inputs // g * kernel**rank) ** -0.5, rank=rank, what=part,
            )
            for g in groups
        )  # fmt: skip
        self.norms = nn.ModuleList(build(norm, "norm", dim=dim) for _ in groups)
        self.merged = False

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *grid c"]:
        first, *others = (norm(branch(x)) for branch, norm in zip(self.branches, self.norms, strict=True))
        for other in others:
            first = first + other
        return first

    @torch.no_grad()
    def merge_branches(self) -> None:
        """Make one convolution of all branches, whose norms were folded into them."""
        if self.merged or not all(isinstance(norm, nn.Identity) for norm in self.norms):
            raise FitError(
                "branches merge once, behind norms that were folded: this convolution "
                + ("is merged already." if self.merged else "still has its norms; reparameterize(model) folds both.")
            )
        branches: list[Any] = list(self.branches)
        groups = math.gcd(*(branch.groups for branch in branches))
        first = branches[0]
        weight, bias = sum(spread(b, groups) for b in branches), sum(b.bias for b in branches)
        first.weight, first.bias, first.groups = nn.Parameter(weight), nn.Parameter(bias), groups
        self.branches, self.norms, self.merged = nn.ModuleList([first]), nn.ModuleList([nn.Identity()]), True


class MultiGroupMixer(TokenMixer):
    """W act(conv(x)), a 3x3 and a 1x1 convolution that are both trained as sums over groups of channels.

    The token mixer of the convolutional fusion block (CFB) of Tan et al. 2023 (FMViT), arXiv:2311.05707, which has
    Next-ViT's convolutional block (arXiv:2207.05501, section 3.2) for its model. Outside the grid, and at padding,
    tokens count as zero. Cost: tokens c^2 (kernel^rank / heads + 1) multiply-adds when folded.

    Args:
        dim: channels.
        heads: groups of the 3x3 convolution's widest branch; another has twice as many.
        kernel: tokens along each axis that a filter covers; odd.
        groups: of the 1x1 convolution's branches.
        act: activation between them.
        norm: in every branch.
        grid: only its rank counts.

    Raises:
        OptionError: heads or groups that do not divide dim; an even kernel.
    """

    name = "multi_group"
    papers = ("fmvit",)
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kernel: int = 3,
        groups: Sequence[int] = (1, 2),
        act: Spec = Spec("relu"),
        norm: Spec = Spec("batchnorm"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        options = {"norm": norm, "rank": len(grid), "part": self.name}
        self.conv = MultiGroupConv(dim, dim, kernel=kernel, groups=(heads, 2 * heads), **options)
        self.act = build(act, "act")
        self.out = MultiGroupConv(dim, dim, groups=groups, **options)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.out(self.act(self.conv(x if segments is None else segments.zero(x))))
