"""Positions as rotations of queries and keys."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.part import Part


class Rotary(Part):
    """Rotate pairs of channels by position times frequency, so that q k^T depends on the distance only.

    Su et al. 2021 (RoFormer), arXiv:2104.09864, equation 15. `layout` "halves" pairs channel i with i + d/2 (Llama,
    GPT-NeoX), "interleaved" with its neighbour (the paper).

    Args:
        head_dim: channels of a head; even.
        base: the lowest frequency is base^-1 (about).
        fraction: share of the channels that rotate (GPT-NeoX 0.25).
    """

    name = "rotary"
    kind = "rotation"
    tiny = {"head_dim": 8}

    def __init__(
        self,
        head_dim: int,
        *,
        base: float = 10000.0,
        layout: Literal["halves", "interleaved"] = "halves",
        fraction: float = 1.0,
    ):
        super().__init__()
        self.rotated = int(head_dim * fraction)
        if self.rotated % 2:
            raise OptionError(
                f"rotary turns pairs of channels; given {self.rotated} of head_dim={head_dim}, an odd number."
            )
        self.base, self.layout = base, layout

    def frequencies(self, device: torch.device) -> Float[Tensor, " pairs"]:
        """The angle by which each pair of channels turns from one position to the next."""
        steps = torch.arange(0, self.rotated, 2, device=device, dtype=torch.float32)
        return self.base ** (-steps / self.rotated)

    def forward(
        self, x: Float[Tensor, "b h n d"], positions: Int[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b h n d"]:
        """Rotate queries or keys; `positions` where they are not 0, 1, ..."""
        if positions is None:
            positions = torch.arange(x.shape[2], device=x.device)[None]
        angles = positions[:, None, :, None].float() * self.frequencies(x.device)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        turned, rest = x[..., : self.rotated], x[..., self.rotated :]
        if self.layout == "halves":
            a, b = turned.chunk(2, -1)
            turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        else:
            a, b = turned[..., ::2], turned[..., 1::2]
            turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
        return turned if rest.shape[-1] == 0 else torch.cat([turned, rest], -1)


class RotaryByParts(Rotary):
    """Rotary for texts longer than those trained on: slow pairs turn `factor` times slower, fast ones as before.

    A pair that turns more than `fast` times over `trained_length` tokens keeps its frequency f, one that turns less
    than `slow` times gets f / factor, and those between get a mixture that is linear in the number of turns. By parts
    as in Peng et al. 2023 (YaRN), arXiv:2309.00071, section 3.2; these bounds and factors are those of Llama 3.1
    (arXiv:2407.21783).

    Args:
        head_dim, base, layout, fraction: as `Rotary`'s.
        factor: how many times slower.
        trained_length: tokens of the texts first trained on.
        slow, fast: turns over them below which a pair is slowed down, and above which it is kept.
    """

    name = "rotary_by_parts"

    def __init__(
        self,
        head_dim: int,
        *,
        factor: float = 8.0,
        trained_length: int = 8192,
        slow: float = 1.0,
        fast: float = 4.0,
        base: float = 10000.0,
        layout: Literal["halves", "interleaved"] = "halves",
        fraction: float = 1.0,
    ):
        super().__init__(head_dim, base=base, layout=layout, fraction=fraction)
        if not 0 < slow < fast or factor <= 0:
            raise OptionError(f"rotary_by_parts takes 0 < slow < fast and factor > 0; given {slow}, {fast}, {factor}.")
        self.factor, self.trained_length, self.slow, self.fast = factor, trained_length, slow, fast

    def frequencies(self, device: torch.device) -> Float[Tensor, " pairs"]:
        kept = super().frequencies(device)
        turns = self.trained_length * kept / (2 * math.pi)
        share = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return share * kept + (1 - share) * kept / self.factor
