"""Positions as rotations of queries and keys."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.kernels.reuse import inference_on_cpu


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
        self, x: Float[Tensor, "b h n d"], positions: Int[Tensor, "b n"] | slice | None = None
    ) -> Float[Tensor, "b h n d"]:
        """Rotate queries or keys; `positions` where they are not 0, 1, ...: of each row, or a slice of all."""
        cos, sin = self._turns(x, positions)
        turned, rest = (x, None) if self.rotated == x.shape[-1] else x.tensor_split([self.rotated], -1)
        if self.layout == "halves":
            other = turned.roll(self.rotated // 2, -1)
        else:
            other = turned.unflatten(-1, (-1, 2)).roll(1, -1).flatten(-2)
        turned = torch.addcmul(turned * cos, other, sin)
        return turned if rest is None else torch.cat([turned, rest], -1)

    @cached_property
    def _each(self) -> tuple[float, ...]:
        return tuple(self.frequencies(torch.device("cpu")).tolist())

    def _turns(self, x: Tensor, positions: Tensor | slice | None) -> tuple[Tensor, Tensor]:
        """Cosine, and sine with the sign that the other channel of a pair comes in with: `(b or 1, 1, n, rotated)`."""
        if not isinstance(positions, Tensor):
            start, stop = (0, x.shape[2]) if positions is None else (positions.start, positions.stop)
            if inference_on_cpu(x) and x.dtype == torch.float32:
                # Every layer and step asks for the same ones again.
                table = _table(self._each, self.layout, 1 << max(stop - 1, 63).bit_length())
                return table[0, start:stop], table[1, start:stop]
            positions = torch.arange(start, stop, device=x.device)[None]
        cos, sin = _spread(positions[:, None, :, None].float() * self.frequencies(x.device), self.layout)
        return cos.to(x.dtype), sin.to(x.dtype)


@lru_cache(maxsize=8)
def _table(frequencies: tuple[float, ...], layout: str, room: int) -> Float[Tensor, "2 n d"]:
    """Cosines and signed sines of the first `room` positions, shared by all layers that turn alike."""
    with torch.inference_mode(False):
        angles = torch.arange(room).float()[:, None] * torch.tensor(frequencies)
        return torch.stack(_spread(angles, layout))


def _spread(angles: Float[Tensor, "*b n pairs"], layout: str) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine of each channel, from the angle of each pair."""
    cos, sin = angles.cos(), angles.sin()
    if layout == "halves":
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    return torch.stack([cos, cos], -1).flatten(-2), torch.stack([-sin, sin], -1).flatten(-2)


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
