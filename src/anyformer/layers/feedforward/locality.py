"""A channel mixer of convolutions with a gate on its hidden channels and a shortcut around it."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import ChannelMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.convolution.fused_mbconv import SqueezeExcite


class LocalityFeedForward(ChannelMixer):
    """x + norm(W2 gate(act(norm(DW(act(norm(W1 x))))))): widen, convolve, weigh channels, narrow, beside a shortcut.

    Li et al. 2021 (LocalViT), arXiv:2104.05707, section 3.3; with batch norms and the shortcut inside, the "locally
    enhanced" network of MedViT V2 (arXiv:2502.13693, section 3.1). Outside the grid, and at padding, tokens count as
    zero. Cost: tokens (2 c hidden + hidden kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        kernel: tokens along each axis that a filter covers; odd.
        gate: hidden channels of the gate (None: the ratio, rounded down, as in MedViT V2).
        norm: after each of the three layers.
        act: activation of the hidden channels.
        grid: only its rank counts.

    Raises:
        OptionError: an even kernel.
    """

    name = "locality"
    papers = ("medvit_v2",)
    per_token = False

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 3.0,
        kernel: int = 3,
        gate: int | None = None,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("hard_swish"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        hidden = int(dim * ratio)
        self.up = init.linear(dim, hidden, bias=False)
        self.norm_up = build(norm, "norm", dim=hidden)
        self.act = build(act, "act")
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = DepthwiseConv(hidden, kernel=kernel, bias=False, std=kernel ** (-len(grid) / 2), grid=grid)
        self.norm_depthwise = build(norm, "norm", dim=hidden)
        self.gate = SqueezeExcite(
            hidden,
            hidden=max(hidden // dim, 1) if gate is None else gate,
            act=Spec("relu"),
            bias=True,
            gate=nn.functional.hardsigmoid,
        )
        self.down = init.linear(hidden, dim, bias=False)
        self.norm_down = build(norm, "norm", dim=dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        hidden = self.act(self.norm_up(self.up(x)))
        hidden = self.act(self.norm_depthwise(self.depthwise(hidden, segments)))
        return x + self.norm_down(self.down(self.gate(hidden, segments)))
