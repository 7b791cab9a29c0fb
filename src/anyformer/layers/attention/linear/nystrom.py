"""Attention through landmarks: the means of runs of tokens stand for all in the middle of three softmaxes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.init import trunc_normal
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.kernels.attention import attend, attention_weights
from anyformer.kernels.conv1d import conv1d
from anyformer.kernels.exact import exact
from anyformer.layers.attention.projection import QKV, merge_heads
from anyformer.layers.attention.scoring.softmax import Scoring


class LandmarkSoftmax(Scoring):
    """softmax(q l_k^T) softmax(l_q l_k^T)^+ softmax(l_q k^T) in place of softmax(q k^T). See `NystromAttention`."""

    def __init__(self, landmarks: int | None, iterations: int, each: bool):
        super().__init__()
        self.landmarks, self.iterations, self.each = landmarks, iterations, each

    def mixture(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Float[Tensor, "b h n d"]:
        mask = options["mask"]
        if self.landmarks is None or q.shape[2] <= self.landmarks:
            return super().mixture(q, k, v, **options)
        q, k, few_q, few_k = self.landmarked(q, k, mask)
        gathered = attend(few_q, k, v, mask=mask)
        with exact(q):
            gathered = self.inverse(few_q, few_k) @ gathered.float()
        return attend(q, few_k, gathered.to(q.dtype))

    def weights(self, q: Tensor, k: Tensor, **options: Any) -> Float[Tensor, "b h n n"]:
        mask = options["mask"]
        if self.landmarks is None or q.shape[2] <= self.landmarks:
            return super().weights(q, k, **options)
        q, k, few_q, few_k = self.landmarked(q, k, mask)
        with exact(q):
            inverse = self.inverse(few_q, few_k).to(q.dtype)
        return attention_weights(q, few_k) @ inverse @ attention_weights(few_q, k, mask=mask)

    def landmarked(self, q: Tensor, k: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries and keys with zeros at padding, and the landmarks of both."""
        assert self.landmarks is not None
        if mask is not None:
            q, k = q * mask.mT, k * mask.mT
        return q, k, runs(q, self.landmarks), runs(k, self.landmarks)

    def inverse(self, few_q: Tensor, few_k: Tensor) -> Float[Tensor, "b h m m"]:
        return pseudo_inverse(attention_weights(few_q.float(), few_k.float()), self.iterations, each=self.each)


class NystromAttention(TokenMixer):
    """y = softmax(q l_k^T) softmax(l_q l_k^T)^+ (softmax(l_q k^T) v) + conv(v), l the means of runs of tokens.

    Scores are divided by sqrt(d); the pseudo-inverse of the middle one comes from an iteration, in float32. Xiong et
    al. 2021 (Nystromformer), arXiv:2102.03902, equations 13 and 14. Tokens are taken in the order in which the grid is
    read; with no more tokens than landmarks, attention is exact. As in the authors' code, padding is zero in the means
    and counts among their tokens. Cost: 4 tokens landmarks c + 4 tokens c^2 + tokens conv c multiply-adds, and
    4 iterations landmarks^3 for each head.

    Args:
        dim, heads, head_dim: channels; heads; channels of a head (None: dim / heads).
        landmarks: runs of tokens; None: every token is one, which is attention among all, in quadratic time.
        conv: tokens that the convolution of values sees, one kernel for each head; odd, or 0 for none.
        iterations: of the pseudo-inverse.
        start: what it starts from, divided by the largest column sum of "each" matrix, or that of "all" in the batch,
            as the authors do, whose outputs depend a little on what else is in a batch.
        conv_padding: whether padding is "hidden" from the convolution, or "seen" by valid neighbours, as transformers
            has it.
        bias, out_bias: biases of the projections in and out.

    Raises:
        OptionError: an even convolution, or fewer landmarks or iterations than 1.
    """

    name = "nystrom"
    papers = ("lra", "survey_faster_lighter")
    cost = 1.0
    tiny = {"heads": 2, "landmarks": 2, "conv": 3}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        landmarks: int | None = 64,
        conv: int = 33,
        iterations: int = 6,
        start: Literal["each", "all"] = "each",
        conv_padding: Literal["hidden", "seen"] = "hidden",
        bias: bool = True,
        out_bias: bool = True,
    ):
        super().__init__()
        if conv < 0 or (conv and conv % 2 == 0):
            raise OptionError(f"nystrom.conv is odd, as many tokens before as after, or 0 for none; given {conv}.")
        if (landmarks is not None and landmarks < 1) or iterations < 1:
            raise OptionError(f"nystrom takes 1 landmark and 1 iteration or more; given {landmarks} and {iterations}.")
        self.conv_padding = conv_padding
        self.qkv = QKV(dim, heads=heads, head_dim=head_dim, bias=bias, part=self.name)
        self.conv = nn.Parameter(trunc_normal(torch.empty(heads, 1, conv))) if conv else None
        self.scoring = LandmarkSoftmax(landmarks, iterations, start == "each")
        self.out = init.linear(self.qkv.widths[0], dim, out_bias)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        q, k, v = self.qkv(x.flatten(1, -2))
        valid = None if segments is None else segments.valid.flatten(1)
        y = self.scoring(q, k, v, mask=None if valid is None else valid[:, None, None])
        if self.conv is not None:
            y = y + self.around(v, valid if self.conv_padding == "hidden" else None)
        return self.out(merge_heads(y)).view_as(x)

    def around(self, v: Float[Tensor, "b h n d"], valid: Tensor | None) -> Float[Tensor, "b h n d"]:
        """The values convolved along the tokens, with the same kernel for all channels of a head."""
        assert self.conv is not None
        v = v if valid is None else v * valid[:, None, :, None]
        channels = v.transpose(1, 2).flatten(2).mT
        each = self.conv.to(v.dtype).repeat_interleave(v.shape[-1], 0)
        y = conv1d(channels, each, padding=self.conv.shape[-1] // 2, groups=len(each))
        return y.mT.unflatten(2, (v.shape[1], -1)).transpose(1, 2)


def runs(x: Float[Tensor, "b h n d"], count: int) -> Float[Tensor, "b h m d"]:
    """Means of at most `count` runs of as many tokens; what the last one lacks counts as zero."""
    size = -(-x.shape[2] // count)
    return F.pad(x, (0, 0, 0, -x.shape[2] % size)).unflatten(2, (-1, size)).mean(3)


def pseudo_inverse(a: Float[Tensor, "*b m m"], iterations: int = 6, each: bool = True) -> Float[Tensor, "*b m m"]:
    """The Moore-Penrose inverse of matrices whose rows sum to 1: Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4.

    From Z = A^T / max column sum, that of each matrix or of all. Razavi et al. 2014, as Xiong et al. 2021,
    arXiv:2102.03902, equation 11, use it. Cost: 4 m^3 multiply-adds an iteration.
    """
    columns = a.sum(-2)
    z = a.mT / (columns.amax(-1)[..., None, None] if each else columns.max())
    one = torch.eye(a.shape[-1], device=a.device, dtype=a.dtype)
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
    return z
