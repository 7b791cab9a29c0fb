"""Two linear heads on one pooled vector, the second for a teacher's labels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.heads import Head
from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class PooledDistilledClassifier(Head):
    """The mean of two linear heads on the pooled tokens: logits `(b, num_classes)`; without classes, the vector.

    `DistilledClassifier` without its tokens: LeViT's and EfficientFormer's, arXiv:2206.01191, section 5.1. Trained by a
    teacher's labels, `both` gives the logits of each head.

    Args:
        dim: channels.
        num_classes: classes; 0 for none.
        pool: from tokens to one vector.
    """

    name = "pooled_distilled_classifier"
    papers = ("efficientformer",)

    def __init__(self, dim: int, *, num_classes: int = 1000, pool: Spec = Spec("mean")):
        super().__init__()
        self.pool = build(pool, "pool", dim=dim)
        self.prefix = self.pool.prefix
        self.linear = init.linear(dim, num_classes) if num_classes else None
        self.distilled = init.linear(dim, num_classes) if num_classes else None

    def both(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Logits for the true labels and for the teacher's."""
        y = self.pool(x, segments, prefix)
        if self.linear is None or self.distilled is None:
            return y, y
        return self.linear(y), self.distilled(y)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        first, second = self.both(x, segments, prefix)
        return (first + second) / 2
