"""An MLP over the tokens of a grid, the same for every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.pooling.mixing import check_grid, known_grid


class TokenMLP(TokenMixer):
    """y^T = MLP(x^T): each channel's values at all tokens go through one MLP, shared by the channels.

    Tolstikhin et al. 2021 (MLP-Mixer), arXiv:2105.01601, equation 1, first line. Padding enters as zero.
    Cost: 2 tokens hidden c multiply-adds. For one grid.

    Args:
        dim: channels.
        grid: the grid that the MLP is built for.
        ratio: hidden units per channel, whatever the number of tokens.
        mlp: the channel mixer that is turned to the tokens, e.g. Spec("mlp"), Spec("gated_mlp").

    Raises:
        OptionError: the grid is not known when the mixer is built.
        SizeError: another grid than it was built for.
    """

    name = "token_mlp"
    papers = ("mlp_mixer",)
    fixed_grid = True
    tiny = {"grid": (4, 4)}

    def __init__(self, dim: int, *, grid: Sequence[int | None], ratio: float = 0.5, mlp: Spec = Spec("mlp")):
        super().__init__()
        self.grid = known_grid(self.name, grid)
        self.mlp = build(mlp, "ffn", dim=math.prod(self.grid), hidden=int(dim * ratio))

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        check_grid(self.name, x.shape[1:-1], self.grid)
        x = x if segments is None else segments.zero(x)
        return self.mlp(x.flatten(1, -2).transpose(1, 2)).transpose(1, 2).view(x.shape)
