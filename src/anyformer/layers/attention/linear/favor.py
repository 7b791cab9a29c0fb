"""Softmax attention in linear time, by positive random features of its kernel (FAVOR+ of the Performer)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-8
"""Added to the sum of the weights of a query."""


def random_directions(features: int, dim: int) -> Float[Tensor, "m d"]:
    """Directions `(features, dim)`, at right angles to each other where there is room, of length sqrt(features)."""
    directions = torch.empty(features, dim)
    return directions if directions.is_meta else nn.init.orthogonal_(directions) * math.sqrt(features)


def positive_features(x: Float[Tensor, "b n d"], directions: Float[Tensor, "m d"]) -> Float[Tensor, "b n m"]:
    """exp(w x - |x|^2 / 2) / sqrt(m) for every direction w: E[f(q) f(k)] = exp(q k) for normal w.

    Choromanski et al. 2020, arXiv:2009.14794, lemma 1. In float32, whatever the type of x.
    """
    x = x.float()
    half = x.square().sum(-1, keepdim=True) / 2
    return torch.exp(x @ directions.float().t() - half) / math.sqrt(len(directions))


def favor(q: Float[Tensor, "b n m"], k: Float[Tensor, "b k m"], v: Float[Tensor, "b k d"]) -> Float[Tensor, "b n d"]:
    """q_i sum_j k_j v_j / q_i sum_j k_j, for features q and k that are never negative.

    Choromanski et al. 2020, arXiv:2009.14794, equation 4. Cost: 2 tokens m d + 2 tokens m multiply-adds.
    """
    total = q @ (k.transpose(1, 2) @ v.to(k.dtype))
    weight = q @ k.sum(1)[..., None]
    return (total / (weight + EPSILON)).to(v.dtype)
