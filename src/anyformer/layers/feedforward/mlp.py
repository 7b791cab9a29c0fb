"""The channel mixer of most blocks: two linear layers, or three with a gate."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import ChannelMixer
from anyformer.core.spec import Spec
from anyformer.kernels.linear import linear_act


class MLP(ChannelMixer):
    """W2 act(W1 x), each token alone. Vaswani et al. 2017, arXiv:1706.03762, equation 2.

    Cost: 2 c hidden multiply-adds a token.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        hidden: hidden channels, instead of `ratio`.
        act: activation, e.g. Spec("gelu"), Spec("relu").
        bias: biases of both layers.
        dropout: share of hidden values dropped in training.
    """

    name = "mlp"
    papers = ("transformer",)

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        hidden: int | None = None,
        act: Spec = Spec("gelu"),
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        hidden = int(dim * ratio) if hidden is None else hidden
        self.up = init.linear(dim, hidden, bias)
        self.act = build(act, "act")
        self.dropout = nn.Dropout(dropout)
        self.down = init.linear(hidden, dim, bias)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return self.down(self.dropout(activated(self.up, self.act, x)))


def activated(linear: nn.Module, act: nn.Module, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
    """act(linear(x)), in one pass where both are what they seem: no subclass, no hook that wants to see between."""
    fused = getattr(act, "fused", None)
    if fused is None or type(linear) is not nn.Linear or linear._forward_hooks or act._forward_hooks:
        return act(linear(x))
    return act.finish(linear_act(x, linear.weight, linear.bias, fused))


class GatedMLP(ChannelMixer):
    """W3 (act(W1 x) * W2 x), each token alone; with SiLU this is SwiGLU. Shazeer 2020, arXiv:2002.05202.

    Cost: 3 c hidden multiply-adds a token. Arguments as `MLP`'s.
    """

    name = "gated_mlp"

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 8 / 3,
        hidden: int | None = None,
        act: Spec = Spec("silu"),
        bias: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        hidden = int(dim * ratio) if hidden is None else hidden
        self.gate_up = init.linear(dim, 2 * hidden, bias)
        self.act = build(act, "act")
        self.dropout = nn.Dropout(dropout)
        self.down = init.linear(hidden, dim, bias)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(self.dropout(self.act(gate) * up))
