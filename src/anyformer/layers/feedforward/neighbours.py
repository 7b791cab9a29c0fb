"""What channel mixers share that also look at each token's neighbours: hidden channels, a kernel, an activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import ChannelMixer
from anyformer.core.spec import Spec
from anyformer.layers.convolution.depthwise import DepthwiseConv


class NeighbourMLP(ChannelMixer):
    """An MLP that mixes neighbours on its way; its layers are the subclass's.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        hidden: hidden channels, instead of `ratio`.
        kernel: tokens along each axis that a filter covers; odd.
        act: activation.
        grid: only its rank counts.
    """

    per_token = False

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        hidden: int | None = None,
        kernel: int = 3,
        act: Spec = Spec("gelu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.hidden = int(dim * ratio) if hidden is None else hidden
        self.kernel, self.rank = kernel, len(grid)
        self.act = build(act, "act")


class DepthwiseMLP(NeighbourMLP):
    """Two linear layers, and a depthwise convolution of the hidden channels for between them.

    Arguments as `NeighbourMLP`'s. Raises `OptionError` for an even kernel.
    """

    def __init__(self, dim: int, *, grid: Sequence[int | None] = (None, None), **options: Any):
        super().__init__(dim, grid=grid, **options)
        self.up = init.linear(dim, self.hidden)
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        std = self.kernel ** (-self.rank / 2)
        self.depthwise = DepthwiseConv(self.hidden, kernel=self.kernel, std=std, grid=grid)
        self.down = init.linear(self.hidden, dim)
