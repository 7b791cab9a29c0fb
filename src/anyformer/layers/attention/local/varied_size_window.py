"""Attention from fixed windows to windows whose size and place are predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Rest, Tiling, fit_window, plan, tile, untile
from anyformer.layers.attention.projection import QKV, merge_heads, split_dim


class VariedSizeWindowAttention(TokenMixer):
    """Queries stay in windows that tile the grid; each window and head samples keys and values from one of its own.

    From the mean of a window's tokens, a linear layer after a LeakyReLU predicts for each head a scale s and an offset
    o: the key that stood at place p of a window with centre m stands at p + s (p - m) + o / (2 (windows along the
    axis)) of the map's extent, where the map is sampled bilinearly. Outside the map, and at padding, keys and values
    are zero, as are tokens that fill a grid up. Zhang et al. 2022 (VSA), arXiv:2204.08446, section 3. With
    scales and offsets of zero, where they start, it is window attention. Scores are divided by (inputs / heads)^0.5.
    Cost: that of window attention, 2 tokens window^2 dim + 3 tokens inputs dim + tokens dim^2 multiply-adds, and
    4 tokens / window^2 heads inputs.

    Args:
        dim: channels of the output.
        heads: attention heads.
        window: side of a window, or its sides along each axis.
        inputs: channels of the input (None: dim).
        cap, rest, qkv_bias, distance, scoring: as `WindowAttention`'s.
        grid: the grid that the part is built for.

    Raises:
        SizeError: a window larger than the grid, without `cap`; windows that do not divide it, with `rest="refuse"`.
    """

    name = "varied_size_window"
    papers = ("vsa",)
    ranks = (2,)
    tiny = {"heads": 2, "window": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int | Sequence[int] = 7,
        inputs: int | None = None,
        cap: bool = False,
        rest: Rest = "pad",
        qkv_bias: bool | Literal["qv"] = True,
        distance: Spec | None = Spec("relative_table"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        inputs = dim if inputs is None else inputs
        # The authors' code divides scores by the root of a head's share of the inputs.
        self.sharpness = (dim / inputs) ** 0.5
        self.window = fit_window(window, grid, cap=cap, part=self.name)
        self.rest: Rest = rest
        self.qkv = QKV(inputs, heads=heads, head_dim=split_dim(dim, heads, None, self.name), bias=qkv_bias)
        # Each a column and a row, in this order, for each head.
        self.offset = init.linear(inputs, 2 * heads)
        self.scale = init.linear(inputs, 2 * heads)
        for layer in (self.offset, self.scale):
            nn.init.zeros_(layer.weight)
        self.bias = build(distance, "bias", heads=heads, window=self.window) if distance is not None else None
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b h w i"], segments: Segments | None = None) -> Float[Tensor, "b h w c"]:
        size, batch, heads = x.shape[1:-1], len(x), self.qkv.heads
        tiling = plan(size, self.window, (0, 0), rest=self.rest)
        x = x if segments is None else segments.zero(x)
        places = self.places(x, tiling)
        q, k, v = (t.flatten(0, 1).unflatten(1, size) for t in self.qkv(x.flatten(1, 2)))
        keys = torch.cat([k, v], -1)
        if segments is not None:
            keys = keys * segments.valid.repeat_interleave(heads, 0)[..., None].to(keys.dtype)
        whole = plan(tiling.padded, self.window, (0, 0))
        keys = tile(sampled(untile(tile(keys, tiling), whole), places.to(keys.dtype)), whole)

        def windows(t: Tensor) -> Tensor:
            return t.unflatten(0, (batch, heads)).transpose(1, 2).flatten(0, 1)

        k, v = windows(keys).chunk(2, -1)
        bias = self.bias() if self.bias is not None else None
        y = self.out(merge_heads(self.scoring(self.sharpness * windows(tile(q, tiling)), k, v, bias=bias)))
        return untile(y.view(batch, math.prod(tiling.tiles), -1, y.shape[-1]), tiling)

    def places(self, x: Float[Tensor, "b h w i"], tiling: Tiling) -> Float[Tensor, "bh ph pw 2"]:
        """Where each head samples the key of every place: column and row, -1 to 1 from the first token to the last."""
        pooled = nn.functional.leaky_relu(tile(x, tiling).mean(2))
        offset, scale = (
            layer(pooled).view(len(x), *tiling.tiles, self.qkv.heads, 2).permute(0, 3, 1, 2, 4).flatten(0, 1)
            for layer in (self.offset, self.scale)
        )  # (b h, rows, columns, 2)
        axes = []
        for axis, (side, window, extent) in enumerate(zip(tiling.grid, self.window, tiling.padded, strict=True)):
            step = torch.arange(extent, device=x.device)
            unit = 2 / max(extent - 1, 1)
            inside = unit * (step % window - (window - 1) / 2)
            of = 1 - axis  # columns come first
            spread = [t[..., of].repeat_interleave(self.window[0], 1) for t in (offset, scale)]
            moved, grown = (t.repeat_interleave(self.window[1], 2) for t in spread)
            shape = (1, -1, 1) if axis == 0 else (1, 1, -1)
            axes.append(unit * step.view(shape) - 1 + inside.view(shape) * grown + moved / max(side // window, 1))
        return torch.stack(axes[::-1], -1)


def sampled(x: Float[Tensor, "b h w c"], places: Float[Tensor, "b p q 2"]) -> Float[Tensor, "b p q c"]:
    """A map at places between its tokens, bilinearly; zero outside."""
    y = nn.functional.grid_sample(x.movedim(-1, 1), places, padding_mode="zeros", align_corners=True)
    return y.movedim(1, -1)
