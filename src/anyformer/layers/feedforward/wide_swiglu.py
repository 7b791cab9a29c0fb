"""An MLP whose activation is a gated MLP of the hidden channels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.part import ChannelMixer
from anyformer.layers.feedforward.mlp import GatedMLP


class WideSwiGLU(ChannelMixer):
    """W5 W4 (silu(W2 W1 x) * W3 W1 x), all of W2 to W4 from hidden to hidden channels, each token alone.

    Zidi et al. 2025 (LoLA-SpecViT), arXiv:2506.17759, as the authors' code has SwiGLU (arXiv:2002.05202): between two
    linear maps, which carry the low-rank updates. Cost: 2 c hidden + 3 hidden^2 multiply-adds a token.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        dropout: share of gated values dropped in training.
    """

    name = "wide_swiglu"
    papers = ("lola_specvit",)

    def __init__(self, dim: int, *, ratio: float = 4.0, dropout: float = 0.0):
        super().__init__()
        hidden = int(dim * ratio)
        self.up = init.linear(dim, hidden)
        self.swiglu = GatedMLP(hidden, hidden=hidden, bias=True, dropout=dropout)
        self.down = init.linear(hidden, dim)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return self.down(self.swiglu(self.up(x)))
