"""Attention along one axis whose queries, keys and values all know relative positions."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import split_dim

NORM = Spec("batchnorm", eps=1e-3, momentum=0.01)


class RelativeVectors(nn.Module):
    """A learned vector for every distance from `1 - span` to `span - 1`: `(n, n, dim)` for query i and key j."""

    def __init__(self, dim: int, span: int):
        super().__init__()
        self.span = span
        self.weight = nn.Parameter(init.trunc_normal(torch.empty(2 * span - 1, dim), 1.0))

    def forward(self, n: int) -> Float[Tensor, "n n d"]:
        steps = torch.arange(n, device=self.weight.device)
        return self.weight[steps[None, :] - steps[:, None] + self.span - 1]


class PositionSensitiveAxis(nn.Module):
    """Attention inside rows `(b, n, c)`, with vectors of relative position for queries, keys and values.

    y_i = sum_j softmax_j(q_i k_j + q_i r^q_(j-i) + k_j r^k_(j-i)) (v_j + r^v_(j-i)): Wang et al. 2020 (Axial-DeepLab),
    arXiv:2003.07853, equation 4. As its authors run it, each of the three scores and both halves of the sum are
    normed before they are added, and the projections have neither bias nor a matrix behind the heads.
    Cost: n c (c + 2 k) + n^2 (3 k + 2 c) multiply-adds for k channels of keys.

    Args:
        dim: channels, those of values too.
        heads: attention heads.
        key_dim: channels of queries and of keys.
        span: longest row.
        norm: norm of projections, scores and values.

    Raises:
        OptionError: heads that do not divide the channels.
        SizeError: a row longer than `span`.
    """

    def __init__(self, dim: int, *, heads: int, key_dim: int, span: int = 255, norm: Spec = NORM):
        super().__init__()
        part = "position_sensitive_axial"
        self.heads, self.span = heads, span
        key, value = split_dim(key_dim, heads, None, part), split_dim(dim, heads, None, part)
        self.widths = (key_dim, key_dim, dim)
        self.qkv = init.linear(dim, sum(self.widths), bias=False, std=dim**-0.5)
        self.norm_qkv = build(norm, "norm", dim=sum(self.widths))
        self.query_positions, self.key_positions = RelativeVectors(key, span), RelativeVectors(key, span)
        self.value_positions = RelativeVectors(value, span)
        self.norm_scores = build(norm, "norm", dim=3 * heads)
        self.norm_values = build(norm, "norm", dim=2 * dim)

    def forward(self, x: Float[Tensor, "b n c"], valid: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n c"]:
        n = x.shape[1]
        if n > self.span:
            raise SizeError(
                f"position_sensitive_axial: a row of {n} tokens is too long; rows that fit have 1 to {self.span}: give "
                f"it span={n} or more, or a smaller image."
            )
        qkv = self.norm_qkv(self.qkv(x)).split(self.widths, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in qkv)
        parts = [
            q @ k.transpose(-2, -1),
            torch.einsum("bhid,ijd->bhij", q, self.query_positions(n)),
            torch.einsum("bhjd,ijd->bhij", k, self.key_positions(n)),
        ]
        scores = self.norm_scores(torch.cat(parts, 1).movedim(1, -1))
        scores = scores.unflatten(-1, (3, self.heads)).sum(-2).movedim(-1, 1).float()
        if valid is None:
            weights = scores.softmax(-1)
        else:
            seen = valid[:, None, None, :]
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1).masked_fill(~seen, 0.0)
        weights = weights.to(v.dtype)
        halves = [weights @ v, torch.einsum("bhij,ijd->bhid", weights, self.value_positions(n))]
        y = torch.cat(halves, 1).transpose(1, 2).flatten(2)
        return self.norm_values(y).unflatten(-1, (2, -1)).sum(-2)


class PositionSensitiveAxial(TokenMixer):
    """Position-sensitive attention along the height, then along the width: `(b, h, w, c)` to the same shape.

    Wang et al. 2020 (Axial-DeepLab), arXiv:2003.07853, section 3.2; in the pixel decoder of kMaX-DeepLab (Yu et al.
    2022, arXiv:2207.04044). Cost on h x w tokens: two axes of `PositionSensitiveAxis`, h w (h + w) (3 k + 2 c)
    multiply-adds beside the projections.

    Args:
        dim: channels.
        heads: attention heads.
        key_dim: channels of queries and of keys (None: half of dim).
        span: longest side of the grid.
        norm: norm of projections, scores and values.

    Raises:
        OptionError: heads that do not divide the channels.
        SizeError: a side longer than `span`.
    """

    name = "position_sensitive_axial"
    papers = ("kmax_deeplab",)
    ranks = (2,)
    cost = 1.5
    tiny = {"heads": 2, "span": 32}

    def __init__(self, dim: int, *, heads: int, key_dim: int | None = None, span: int = 255, norm: Spec = NORM):
        super().__init__()
        key_dim = dim // 2 if key_dim is None else key_dim
        self.height, self.width = (
            PositionSensitiveAxis(dim, heads=heads, key_dim=key_dim, span=span, norm=norm) for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "b h w c"], segments: Segments | None = None) -> Float[Tensor, "b h w c"]:
        b, h, w, _ = x.shape
        valid = None if segments is None else segments.valid
        columns = None if valid is None else valid.transpose(1, 2).flatten(0, 1)
        x = self.height(x.transpose(1, 2).flatten(0, 1), columns).unflatten(0, (b, w)).transpose(1, 2)
        rows = None if valid is None else valid.flatten(0, 1)
        return self.width(x.flatten(0, 1), rows).unflatten(0, (b, h))
