"""From clips to tokens: a linear map of every small block of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import SizeError
from anyformer.layers.embedding.patch import PatchEmbedding


class TubeletEmbedding(PatchEmbedding):
    """Clips `(b, channels, frames, h, w)` to tokens `(b, t, h', w', dim)`, one linear map for every tubelet.

    Arnab et al. 2021, arXiv:2103.15691, section 3.2; 2x4x4 in Video Swin, arXiv:2106.13230, section 3.1. A clip that
    tubelets do not divide is filled with zeros at its end.

    Args:
        dim: channels of a token.
        size: frames, rows and columns of a tubelet.
        options: as `PatchEmbedding`'s.

    Raises:
        SizeError: a clip with fewer frames than a tubelet.
    """

    name = "tubelet"
    papers = ("video_swin_driver",)
    tiny = {"in_channels": 3, "rank": 3}

    def __init__(self, dim: int, *, size: Sequence[int] = (2, 4, 4), rank: int = 3, **options: Any):
        super().__init__(dim, size=size, rank=rank, **options)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        if size[0] < self.project.strides[0]:
            raise SizeError(
                f"a tubelet has {self.project.strides[0]} frames and the clip {size[0]}: give "
                f"{self.project.strides[0]} frames or more, repeating the last one where there are no others; any "
                "number of frames from there on fits."
            )
        return super().grid(size)

    def forward(self, images: Float[Tensor, "b i t h w"]) -> Float[Tensor, "b u v w c"]:
        self.grid(images.shape[2:])
        return super().forward(images)
