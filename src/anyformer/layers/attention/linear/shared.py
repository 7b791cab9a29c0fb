"""Linear attention with the kernel 1 + q.k of unit vectors, over positions and over channels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments

EPSILON = 1e-6
"""Added to the summed keys, as the authors do; it keeps the denominator from zero when all keys cancel."""


class SharedSpatialAttention(TokenMixer):
    """y_i = (sum_j v_j + q_i sum_j k_j v_j^T) / (n + q_i . sum_j k_j), with q and k of unit length, over n positions.

    The weights 1 + q_i . k_j are exp(q_i . k_j) to first order, and never below zero; sums over the positions come
    first, so that none is paid for pairs. Wang et al. 2021 (DC-Swin), arXiv:2104.12137, section III-C; the kernel is
    that of Li et al. 2020, arXiv:2007.14902, equation 12. Padding counts neither in the sums nor in n.
    Cost: tokens (c^2 (1 + 4 / reduction)) multiply-adds.

    Args:
        dim: channels.
        reduction: channels per channel of queries and keys.

    Raises:
        OptionError: fewer channels than the reduction.
    """

    name = "shared_spatial"
    papers = ("dc_swin",)
    tiny = {"reduction": 2}

    def __init__(self, dim: int, *, reduction: int = 8):
        super().__init__()
        if not 1 <= reduction <= dim:
            raise OptionError(f"{self.name}: the reduction lies between 1 and the {dim} channels; given {reduction}.")
        self.q = init.linear(dim, dim // reduction)
        self.k = init.linear(dim, dim // reduction)
        self.v = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        flat = x.flatten(1, -2)
        q, k, v = unit(self.q(flat)), unit(self.k(flat)), self.v(flat)
        count, (k, v) = counted([k, v], segments)
        total = v.sum(1, keepdim=True) + q @ (k.transpose(1, 2) @ v)
        weight = count + q @ (k.sum(1) + EPSILON)[..., None]
        return (total / weight).view_as(x)


class SharedChannelAttention(TokenMixer):
    """Attention between channels with the kernel 1 + k.q: every channel becomes a mean of all, weighted by likeness.

    y_ic = (sum_d x_id + sum_d (sum_j x_jc u_jd) u_id) / (n + sum_j u_jc sum_d u_jd) over n positions, with u_i the unit
    vector of token i. Nothing to learn. Wang et al. 2021 (DC-Swin), arXiv:2104.12137, section III-C. Padding counts
    neither in the sums nor in n. Cost: 2 tokens c^2 multiply-adds.
    """

    name = "shared_channel"
    papers = ("dc_swin",)

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        flat = x.flatten(1, -2)
        count, (v,) = counted([flat], segments)
        u = unit(v)
        total = v.sum(-1, keepdim=True) + u @ (u.transpose(1, 2) @ v)
        weight = count + (u * (u.sum(-1, keepdim=True) + EPSILON)).sum(1, keepdim=True)
        return (total / weight).view_as(x)


def unit(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
    """Every token's vector at length 1; zero stays zero."""
    return nn.functional.normalize(x, dim=-1)


def counted(tensors: list[Tensor], segments: Segments | None) -> tuple[Tensor | int, list[Tensor]]:
    """How many tokens are valid, `(b, 1, 1)`, and the tensors `(b, n, c)` with zeros at padding."""
    if segments is None:
        return tensors[0].shape[1], tensors
    flat = segments.flat()
    count = flat.valid.sum(1).clamp(min=1)[:, None, None].to(tensors[0].dtype)
    return count, [flat.zero(t) for t in tensors]
