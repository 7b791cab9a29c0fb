"""Attention over one side of a video: all places of a frame, or all times of a place."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.layers.attention.axial.axial import along
from anyformer.layers.attention.full import Attention


class SpaceAttention(TokenMixer):
    """Attention of every token to all tokens of its own frame: `(b, t, h, w, c)` to the same shape.

    The spatial half of divided (Bertasius et al. 2021, arXiv:2102.05095) and factorised (Arnab et al. 2021,
    arXiv:2103.15691) space-time attention. Cost: 2 t (h w)^2 c + 4 t h w c^2 multiply-adds, against 2 (t h w)^2 c for
    attention among all tokens.

    Args:
        dim: channels.
        heads, head_dim: heads; channels of a head (None: dim / heads).
        bias: biases of queries, keys and values.
    """

    name = "space_attention"
    papers = ("predformer",)
    ranks = (3,)
    cost = 5 / 3  # on a cube of tokens, one axis of which it does not look along
    tiny = {"heads": 2}

    def __init__(self, dim: int, *, heads: int, head_dim: int | None = None, bias: bool = True):
        super().__init__()
        self.attention = Attention(dim, heads=heads, head_dim=head_dim, bias=bias)

    def forward(self, x: Float[Tensor, "b t h w c"], segments: Segments | None = None) -> Float[Tensor, "b t h w c"]:
        frames = None if segments is None else Segments(segments.ids.flatten(0, 1))
        return self.attention(x.flatten(0, 1), frames).view_as(x)


class TimeAttention(TokenMixer):
    """Attention of every token to the tokens at its own place in all frames: `(b, t, *places, c)` to the same shape.

    The temporal half of divided and factorised space-time attention; the first axis of the grid is time. Cost:
    2 t^2 places c + 4 t places c^2 multiply-adds. Arguments as `SpaceAttention`'s.
    """

    name = "time_attention"
    papers = ("predformer",)
    ranks = (2, 3)
    cost = 4 / 3
    tiny = {"heads": 2}

    def __init__(self, dim: int, *, heads: int, head_dim: int | None = None, bias: bool = True):
        super().__init__()
        self.attention = Attention(dim, heads=heads, head_dim=head_dim, bias=bias)

    def forward(self, x: Float[Tensor, "b t *places c"], segments: Segments | None = None) -> Tensor:
        return along(x, 0, self.attention, segments)
