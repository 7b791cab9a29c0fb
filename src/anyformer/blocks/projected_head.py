"""A classifier that widens its tokens before it pools them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.heads import Head
from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class ProjectedClassifier(Head):
    """Linear, norm, activation for every token, then pool, then linear: logits `(b, num_classes)`.

    The head of MobileNets and EfficientNets (arXiv:1905.11946, table 1), and of RMT (arXiv:2309.11523); with
    num_classes=0, the pooled vector `(b, hidden)`.

    Args:
        dim: channels of the tokens.
        num_classes: classes; 0 for none.
        hidden: channels after the first linear layer.
        norm, act: what follows it.
        pool: from tokens to one vector.
        dropout: share of that vector's values dropped in training.
    """

    name = "projected_classifier"
    papers = ("rmt",)

    def __init__(
        self,
        dim: int,
        *,
        num_classes: int = 1000,
        hidden: int = 1024,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("silu"),
        pool: Spec = Spec("mean"),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.project = init.linear(dim, hidden)
        self.norm = build(norm, "norm", dim=hidden)
        self.act = build(act, "act")
        self.pool = build(pool, "pool", dim=hidden)
        self.prefix = self.pool.prefix
        self.dropout = nn.Dropout(dropout)
        self.linear = init.linear(hidden, num_classes) if num_classes else None

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        y = self.pool(self.act(self.norm(self.project(x))), segments, prefix)
        return y if self.linear is None else self.linear(self.dropout(y))
