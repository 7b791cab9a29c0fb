"""kMaX-DeepLab's decoder layer: centres predict masks, take in the pixels that these assign to them, and compare notes.

Yu et al. 2022, arXiv:2207.04044, figure 3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.blocks.decode import ConvNorm
from anyformer.blocks.residual import drop_path
from anyformer.core import init as start
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.layers.attention.cross.kmeans import KMeansCrossAttention
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.models.dense.kmax_pixels import GELU, start_silent
from anyformer.models.dense.mask_matching import MaskPredictions

VOID_PRIOR = 0.9
"""Probability of "no object" when all class scores are equal (MaX-DeepLab, arXiv:2012.00759)."""


class MaskPredictor(nn.Module):
    """Centres and pixels to a class and a mask for every centre.

    The masks' logits are products of a kernel of each centre with the pixels' normalized vectors, scaled and shifted by
    a norm of one channel. Yu et al. 2022, arXiv:2207.04044, section 3.2; Wang et al. 2021, arXiv:2012.00759, eq. 9.

    Args:
        inputs, dim: channels of pixels and of centres.
        mask_dim: channels of kernels and pixel vectors.
        num_classes: classes, without "no object".
        norm: norm behind convolutions and of the logits.
        sharpness: first deviation of the logits.
    """

    def __init__(self, inputs: int, dim: int, *, mask_dim: int, num_classes: int, norm: Spec, sharpness: float):
        super().__init__()
        self.near = build("depthwise", "mixer", dim=inputs, kernel=5, bias=False, std=1 / 5)
        self.norm_near = build(norm, "norm", dim=inputs)
        self.hidden = ConvNorm(inputs, dim, kernel=1, norm=norm, act=GELU)
        self.vectors = start.linear(dim, mask_dim)
        self.norm_vectors = build(norm, "norm", dim=mask_dim)
        self.kernels = ConvNorm(dim, mask_dim, kernel=1, norm=norm, act=None, rank=1)
        self.classes = start.linear(dim, num_classes + 1, std=0.01)
        self.norm_masks = build(norm, "norm", dim=1)
        nn.init.constant_(self.norm_masks.weight, sharpness)
        self.void = math.log(num_classes * VOID_PRIOR / (1 - VOID_PRIOR))

    def forward(
        self,
        for_classes: Float[Tensor, "b n c"],
        for_masks: Float[Tensor, "b n c"],
        pixels: Float[Tensor, "b h w i"],
    ) -> MaskPredictions:
        x = self.hidden(F.gelu(self.norm_near(self.near(pixels))))
        vectors = F.normalize(self.norm_vectors(self.vectors(x)), dim=-1)
        masks = torch.einsum("bhwd,bnd->bnhw", vectors, self.kernels(for_masks))
        scores = self.classes(for_classes)
        scores = torch.cat([scores[..., :-1], scores[..., -1:] + self.void], -1)
        return MaskPredictions(scores, self.norm_masks(masks[..., None])[..., 0], vectors.movedim(-1, 1))


class CentreAttention(nn.Module):
    """Self-attention among centres with a norm of the scores, per head, in place of their scale.

    Wang et al. 2021 (MaX-DeepLab), arXiv:2012.00759, as its authors run it: projections and outputs are normed, a GELU
    precedes the last projection, whose norm starts at 0 as published. Queries and keys have half of the channels.
    """

    def __init__(self, dim: int, *, heads: int, norm: Spec):
        super().__init__()
        self.widths = (dim // 2, dim // 2, dim)
        self.heads = heads
        split_dim(dim // 2, heads, None, "kmax_deeplab")
        self.qkv = ConvNorm(dim, sum(self.widths), kernel=1, norm=norm, act=None, rank=1)
        self.norm_scores = build(norm, "norm", dim=heads)
        self.norm_values = build(norm, "norm", dim=dim)
        self.out = ConvNorm(dim, dim, kernel=1, norm=norm, act=None, rank=1)
        start_silent(self.out)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        parts = self.qkv(x).split(self.widths, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts)
        scores = self.norm_scores((q @ k.transpose(-2, -1)).movedim(1, -1)).movedim(-1, 1)
        weights = scores.float().softmax(-1).to(v.dtype)
        return self.out(F.gelu(self.norm_values(merge_heads(weights @ v))))


class KMeansDecoderLayer(nn.Module):
    """A step of k-means over one map, self-attention among centres, and an MLP: centres `(b, n, c)` to centres.

    Yu et al. 2022, arXiv:2207.04044, figure 3. The masks that the centres predict on the way in are the assignment.
    Cost: pixels c (inputs + 2 c + 25 + mask_dim n / c) multiply-adds, and n c hidden for the MLP.

    Args:
        inputs, dim: channels of pixels and of centres.
        heads: of self-attention.
        hidden: inner channels of the MLP.
        mask_dim, num_classes, norm, sharpness: as `MaskPredictor`'s.
        drop_path: rate of stochastic depth of the three branches.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        heads: int,
        hidden: int,
        mask_dim: int,
        num_classes: int,
        norm: Spec,
        sharpness: float,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.drop_path = drop_path
        self.centres = ConvNorm(dim, dim, kernel=1, norm=norm, act=GELU, rank=1)
        self.pixels = ConvNorm(inputs, dim, kernel=1, norm=norm, act=GELU)
        self.predict = MaskPredictor(
            dim, dim, mask_dim=mask_dim, num_classes=num_classes, norm=norm, sharpness=sharpness
        )
        self.cross = KMeansCrossAttention(dim, norm=norm)
        self.attention = CentreAttention(dim, heads=heads, norm=norm)
        self.up = ConvNorm(dim, hidden, kernel=1, norm=norm, act=GELU, rank=1)
        self.down = ConvNorm(hidden, dim, kernel=1, norm=norm, act=None, rank=1)
        start_silent(self.down)

    def forward(
        self, centres: Float[Tensor, "b n c"], pixels: Float[Tensor, "b h w i"]
    ) -> tuple[Float[Tensor, "b n c"], MaskPredictions]:
        pixels, x = self.pixels(F.gelu(pixels)), self.centres(centres)
        found = self.predict(x, x, pixels)
        centres = centres + self._kept(self.cross(x, pixels.flatten(1, 2), found.masks.flatten(2)))
        centres = F.gelu(centres + self._kept(self.attention(x)))
        return F.gelu(centres + self._kept(self.down(self.up(centres)))), found

    def _kept(self, y: Tensor) -> Tensor:
        return drop_path(y, self.drop_path, self.training)
