"""A block that is applied again and again, and given the input anew each time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.block import PlacedBlock
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State


class Looped(PlacedBlock):
    """y_(t+1) = norm(block(y_t + x)), y_0 = 0, `loops` times: a looped block with input injection.

    Yang et al. 2023, arXiv:2311.12424, section 3; the middle of AlgoFormer (Gao et al. 2024, arXiv:2402.13572, section
    3). Once is the block itself (and the norm), and parameters do not depend on the loops. A causal one keeps the
    block's state once for each loop. Cost: `loops` times the block's.

    Args:
        dim: channels.
        block: the block; `series` for several layers.
        loops: how many times.
        norm: of every loop's output, as in Yang et al.'s code; None for none.
        grid, causal, layer, layers, drop_path, dropout: handed to the block.

    Raises:
        OptionError: fewer than one loop.
    """

    name = "looped"
    papers = ("algoformer",)

    def __init__(self, dim: int, *, block: Spec, loops: int = 6, norm: Spec | None = None, **options: Any):
        super().__init__(dim, **options)
        if loops < 1:
            raise OptionError(f"looped: the block is applied once or more; given loops={loops}.")
        self.loops = loops
        self.block = self.place.build(block, "block")
        self.norm = nn.Identity() if norm is None else build(norm, "norm", dim=dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        y = self.norm(self.block(x, segments))
        for _ in range(self.loops - 1):
            y = self.norm(self.block(y + x, segments))
        return y

    def init_state(self, batch: int, *, like: Tensor, memory: Tensor | None = None, memory_segments=None) -> State:
        return [self.block.init_state(batch, like=like) for _ in range(self.loops)]

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        y, new = torch.zeros_like(x), []
        for old in state:
            y, following = self.block.extend(y + x, old)
            y = self.norm(y)
            new.append(following)
        return y, new
