"""From all tokens to one vector."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.part import Part
from anyformer.core.segments import Segments


class Pool(Part):
    """Tokens `(b, *grid, c)` to `(b, c)`. `prefix` is how many class tokens it needs at the front of a sequence."""

    kind = "pool"
    prefix: ClassVar[int] = 0

    def forward(self, x: Tensor, segments: Segments | None = None, prefix: int = 0) -> Tensor:
        raise NotImplementedError


class MeanPool(Pool):
    """The mean over all tokens behind the `prefix` that are not padding."""

    name = "mean"

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b c"]:
        x = x.flatten(1, -2)[:, prefix:]
        if segments is None:
            return x.mean(1)
        valid = segments.flat().valid[:, prefix:, None].to(x.dtype)
        return (x * valid).sum(1) / valid.sum(1).clamp(min=1)


class ClassPool(Pool):
    """The first token, which the model learned to gather the others in. arXiv:1810.04805, arXiv:2010.11929."""

    name = "class"
    papers = ("vit",)
    prefix = 1

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b c"]:
        return x.flatten(1, -2)[:, 0]


class SequencePool(Pool):
    """softmax(g(x))^T x: a weighted mean with weights from the tokens. Hassani et al. 2021, arXiv:2104.05704, eq. 3."""

    name = "sequence"
    papers = ("compact_transformers",)

    def __init__(self, dim: int):
        super().__init__()
        self.score = init.linear(dim, 1)

    def weights(self, x: Float[Tensor, "b n c"], segments: Segments | None = None) -> Float[Tensor, "b n"]:
        """The weight of each token; they sum to 1."""
        scores = self.score(x)[..., 0]
        if segments is not None:
            scores = scores.masked_fill(~segments.flat().valid[:, -x.shape[1] :], float("-inf"))
        return scores.softmax(-1)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b c"]:
        x = x.flatten(1, -2)[:, prefix:]
        return (self.weights(x, segments)[:, None] @ x)[:, 0]
