"""Patch merging inside every frame of a clip."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import FitError
from anyformer.core.spec import Spec
from anyformer.layers.embedding.merge import PatchMerging


class FrameMerging(PatchMerging):
    """2 x 2 neighbours of a frame side by side, normed, mapped to `dim`: `(b, t, h, w, c)` to `(b, t, h/2, w/2, dim)`.

    Time stays as fine as it was. Liu et al. 2021 (Video Swin), arXiv:2106.13230, section 3.1.

    Args:
        inputs, dim: channels in and out.
        norm: norm of the neighbours.
        rank: axes of the grid, frames first.

    Raises:
        FitError: a grid without a time axis.
    """

    name = "frame_merge"
    papers = ("video_swin_driver",)
    tiny = {"inputs": 8, "rank": 3}

    def __init__(self, inputs: int, dim: int, *, norm: Spec = Spec("layernorm"), rank: int = 3):
        if rank != 3:
            raise FitError(
                f"{self.name} merges inside frames, on grids of rank 3; this one has rank {rank}: take merge."
            )
        super().__init__(inputs, dim, norm=norm, rank=rank - 1)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return (*size[:-2], *super().grid(size[-2:]))

    def forward(self, x: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t i j d"]:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
