"""Window attention whose windows end where the grid ends, and keep the biases of the whole window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Rest, Tiling, plan
from anyformer.layers.attention.local.window import WindowAttention


class ClippedWindowAttention(WindowAttention):
    """Window attention on grids of any size: along an axis shorter than the window, one window as long as the axis.

    Its biases are those of the offsets that remain, from the table of the whole window, so that one model serves clips
    of any number of frames. Liu et al. 2021 (Video Swin), arXiv:2106.13230, section 3.2. On a grid that is nowhere
    shorter it is `WindowAttention`; on one frame it is that of an image. The authors' code takes the first biases of
    the table instead, which are the same for short clips, and other ones for small frames. Cost as `WindowAttention`'s.

    Args:
        dim, heads, window, rest, qkv_bias, distance, scoring, grid: as `WindowAttention`'s.
        shift: "half" a window along the axes that are longer than it, or "none".
    """

    name = "clipped_window"
    papers = ("video_swin_driver",)
    tiny = {"heads": 2, "window": 3, "shift": "half"}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int | Sequence[int] = 7,
        shift: Literal["none", "half"] = "none",
        rest: Rest = "pad",
        qkv_bias: bool | Literal["qv"] = True,
        distance: Spec | None = Spec("relative_table"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__(
            dim, heads=heads, window=window, shift=shift, rest=rest, qkv_bias=qkv_bias, distance=distance,
            scoring=scoring, grid=(None,) * len(grid),
        )  # fmt: skip

    def tiling(self, size: Sequence[int]) -> Tiling:
        pairs = list(zip(self.window, self.shift, size, strict=True))
        window = tuple(min(w, s) for w, _, s in pairs)
        return plan(size, window, tuple(0 if s <= w else half for w, half, s in pairs), rest=self.rest)

    def biases(self, tiling: Tiling) -> Float[Tensor, "h t t"] | None:
        whole = super().biases(tiling)
        if whole is None or tiling.window == self.window:
            return whole
        places = torch.arange(whole.shape[-1], device=whole.device).view(self.window)
        kept = places[tuple(slice(w) for w in tiling.window)].flatten()
        return whole[:, kept][:, :, kept]
