"""Kolmogorov-Arnold layers: a learned function on every edge instead of a number, as one product over a basis."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import ChannelMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.channel_major import channel_major, channels_last


class KANLayer(nn.Module):
    """y_j = sum_i f_ij(x_i), with f_ij = base_ji act(x_i) + sum_g spline_jig b((norm(x)_i - g) / width).

    Functions of edges: Liu et al. 2024 (KAN), arXiv:2404.19756, equations 2.5 and 2.10. The basis is b(u) =
    1 - tanh(u)^2 on evenly spaced points g, which needs no recursion as B-splines do: Delis 2024 (FasterKAN), as in
    Manzari et al. 2025 (MedViT V2), arXiv:2502.13693, section 3.3. `(..., inputs)` to `(..., outputs)`.
    Cost: inputs outputs (points + 1) multiply-adds; memory: points times the inputs.

    Args:
        inputs, outputs: channels.
        points: basis functions on an edge.
        reach: points lie evenly between -reach and reach.
        width: of a basis function.
        norm: what brings the inputs to where the points lie; None for inputs that lie there.
        base: activation of the smooth part of every function; None leaves that part out.

    Raises:
        OptionError: fewer than two points.
    """

    centres: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        points: int = 8,
        reach: float = 2.0,
        width: float = 0.33,
        norm: Spec | None = Spec("layernorm"),
        base: Spec | None = Spec("silu"),
    ):
        super().__init__()
        if points < 2:
            raise OptionError(f"a KAN layer has two points or more on every edge; given points={points}.")
        self.width = width
        self.register_buffer("centres", torch.linspace(-reach, reach, points), persistent=False)
        self.norm = build(norm, "norm", dim=inputs) if norm is not None else None
        self.spline = nn.Linear(inputs * points, outputs, bias=False)
        nn.init.xavier_uniform_(self.spline.weight)
        self.act = build(base, "act") if base is not None else None
        self.base = init.linear(inputs, outputs, bias=False) if base is not None else None

    def basis(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b ig"]:
        """What every basis function gives for every input, an input's side by side."""
        near = x if self.norm is None else self.norm(x)
        u = ((near[..., None] - self.centres) / self.width).tanh()
        return (1 - u * u).flatten(-2)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        y = self.spline(self.basis(x))
        return y if self.act is None or self.base is None else y + self.base(self.act(x))


class KAN(ChannelMixer):
    """Two Kolmogorov-Arnold layers in place of an MLP's two linear layers and activation, each token alone.

    Manzari et al. 2025 (MedViT V2), arXiv:2502.13693, section 3.3.
    Cost: 2 c hidden (points + 1) multiply-adds a token.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        hidden: hidden channels, instead of `ratio`.
        points, reach, width, norm, base: as `KANLayer`'s.
    """

    name = "kan"
    papers = ("medvit_v2",)

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 2.0,
        hidden: int | None = None,
        points: int = 8,
        reach: float = 2.0,
        width: float = 0.33,
        norm: Spec | None = Spec("layernorm"),
        base: Spec | None = Spec("silu"),
    ):
        super().__init__()
        hidden = int(dim * ratio) if hidden is None else hidden
        options = {"points": points, "reach": reach, "width": width, "norm": norm, "base": base}
        self.up = KANLayer(dim, hidden, **options)
        self.down = KANLayer(hidden, dim, **options)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return self.down(self.up(x))


class ChannelMajorKAN(KAN):
    """`KAN` over a map that is read as if its channels came last while they come first; see `channel_major`.

    As in MedViT V2's published code and weights. Arguments as `KAN`'s; tokens that are padding count as zero.
    """

    name = "channel_major_kan"
    per_token = False

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None
    ) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        return channels_last(super().forward(channel_major(x)))
