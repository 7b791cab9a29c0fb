"""Softmax whose scores are divided by the root of the whole width, and not of a head's."""

from __future__ import annotations

from torch import Tensor

from anyformer.layers.attention.scoring.softmax import Scoring


class WidthSoftmax(Scoring):
    """softmax(q k^T / sqrt(width) + bias) v with the width of all heads together: scores sqrt(heads) times smaller.

    No paper says so; the authors' weights of CvT (arXiv:2103.15808) and T2T-ViT (arXiv:2101.11986) are made for it.

    Args:
        heads: how many heads share the width.
        width: what the scores are divided by the root of (None: heads times the channels of a head).
        dropout: share of weights dropped in training.
    """

    name = "width_softmax"
    papers = ("cvt", "t2t_vit")
    tiny = {"heads": 2}

    def __init__(self, heads: int, *, width: int | None = None, dropout: float = 0.0):
        super().__init__(dropout=dropout)
        self.heads, self.width = heads, width

    def queries_keys(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float | None]:
        width = self.heads * q.shape[-1] if self.width is None else self.width
        return q, k, width**-0.5
