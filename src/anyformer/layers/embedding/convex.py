"""Enlarging a field by convex combinations: every fine value lies among the nine coarse ones around it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def convex_upsample(
    field: Float[Tensor, "b c h w"], scores: Float[Tensor, "b s h w"], factor: int
) -> Float[Tensor, "b c fine_h fine_w"]:
    """`field` at `factor` times its resolution, each fine value a mean of 3x3 coarse ones weighed by softmax(scores).

    Teed and Deng 2020 (RAFT), arXiv:2003.12039, section 3.3 and figure 5. Outside the field there are zeros, as the
    published weights have it, so that fine values in the outermost cells may lie between the field's and zero. The
    values keep their unit: what is measured in cells is to be multiplied by `factor` before. Cost: 9 c multiply-adds
    a fine value.

    Args:
        field: coarse values.
        scores: of the nine neighbours (in rows) for each of the factor x factor fine places (in rows) of a cell, the
            neighbours slowest: s = 9 factor^2.
    """
    batch, channels, height, width = field.shape
    weights = scores.view(batch, 1, 9, factor, factor, height, width).softmax(2)
    around = F.unfold(field, 3, padding=1).view(batch, channels, 9, 1, 1, height, width)
    fine = torch.sum(weights * around, 2)  # (b, c, factor, factor, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, factor * height, factor * width)
