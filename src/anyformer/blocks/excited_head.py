"""A classifier whose channels are weighed by what the whole map holds, before they are pooled."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.heads import Classifier
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.convolution.fused_mbconv import SqueezeExcite


class ExcitedClassifier(Classifier):
    """Squeeze and excitation of the last map, then pool, norm, linear: logits `(b, num_classes)`.

    Vats and Chadha 2023, arXiv:2301.10906, after a Swin; the gate is that of Hu et al. 2017, arXiv:1709.01507,
    equations 2 to 4. Cost: 2 dim^2 ratio multiply-adds a sample, and a product for every value of the map.

    Args:
        dim: channels.
        ratio: hidden channels of the gate per channel.
        options: as `Classifier`'s.
    """

    name = "excited_classifier"
    papers = ("fer_se_swin",)

    def __init__(self, dim: int, *, ratio: float = 1 / 16, **options: Any):
        super().__init__(dim, **options)
        self.excite = SqueezeExcite(dim, ratio=ratio, act=Spec("relu"), bias=True)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        return super().forward(self.excite(x, segments), segments, prefix)
