"""Relative positions inside a window, as a bias of attention scores: a table, or a small network of the offset."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part


def relative_index(window: Sequence[int]) -> Int[Tensor, "t t"]:
    """For every query and key of a window, the row of their offset in a table of prod(2 w - 1) rows."""
    axes = [torch.arange(w) for w in window]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    offsets = places[:, :, None] - places[:, None, :]
    index = torch.zeros(offsets.shape[1:], dtype=torch.long)
    for axis, size in enumerate(window):
        index = index * (2 * size - 1) + offsets[axis] + size - 1
    return index


def relative_offsets(window: Sequence[int]) -> Float[Tensor, "rows rank"]:
    """The offset that each row of the table stands for, in the order of `relative_index`."""
    axes = [torch.arange(1 - w, w, dtype=torch.float32) for w in window]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


class WindowBias(Part):
    """A bias per head for every pair of places in a window: `(heads, tokens, tokens)`."""

    kind = "bias"
    index: Tensor

    def __init__(self, window: Sequence[int]):
        super().__init__()
        self.window = tuple(window)
        self.register_buffer("index", relative_index(self.window), persistent=False)

    def rows(self) -> Float[Tensor, "rows heads"]:
        """The bias of each offset and head."""
        raise NotImplementedError

    def forward(self) -> Float[Tensor, "heads t t"]:
        tokens = math.prod(self.window)
        return self.rows()[self.index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)


class RelativeTable(WindowBias):
    """A learned bias for every offset inside the window. Liu et al. 2021 (Swin), arXiv:2103.14030, equation 4."""

    name = "relative_table"
    papers = ("swin",)
    tiny = {"heads": 2, "window": (3, 3)}

    def __init__(self, heads: int, window: Sequence[int]):
        super().__init__(window)
        rows = math.prod(2 * w - 1 for w in self.window)
        self.table = nn.Parameter(trunc_normal(torch.empty(rows, heads), 0.02))

    def rows(self) -> Tensor:
        return self.table


class LogCPB(WindowBias):
    """The bias as a two-layer network of the log-spaced offset, so that a window can grow after training.

    B = 16 sigmoid(MLP(sign(d) log2(1 + 8 |d| / (w' - 1)) / 3)) with w' the window of pretraining (0: this window).
    Liu et al. 2021 (Swin V2), arXiv:2111.09883, section 3.3.
    """

    name = "log_cpb"
    papers = ("swin_v2",)
    tiny = {"heads": 2, "window": (3, 3)}
    offsets: Tensor

    def __init__(self, heads: int, window: Sequence[int], *, pretrained_window: int = 0, hidden: int = 512):
        super().__init__(window)
        offsets = relative_offsets(self.window)
        scale = torch.tensor([float((pretrained_window or w) - 1) or 1.0 for w in self.window])
        offsets = 8 * offsets / scale
        offsets = offsets.sign() * (offsets.abs() + 1).log2() / 3
        self.register_buffer("offsets", offsets, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(len(self.window), hidden), nn.ReLU(), nn.Linear(hidden, heads, bias=False))

    def rows(self) -> Tensor:
        return 16 * self.mlp(self.offsets).sigmoid()


class LogMLP(WindowBias):
    """The bias as a two-layer network of sign(d) log(1 + |d|), its output taken as it is.

    Log-spaced offsets of Liu et al. 2021 (Swin V2), arXiv:2111.09883, equation 4, as the model was first rebuilt from
    the paper (timm's `swinv2_cr`); the authors' own form is `LogCPB`.

    Args:
        heads: heads of the attention.
        window: side of the window along each axis.
        hidden: width of the network.
        dropout: share of its hidden values dropped in training.
    """

    name = "log_mlp"
    papers = ("swin_v2",)
    tiny = {"heads": 2, "window": (3, 3)}
    offsets: Tensor

    def __init__(self, heads: int, window: Sequence[int], *, hidden: int = 384, dropout: float = 0.125):
        super().__init__(window)
        offsets = relative_offsets(self.window)
        self.register_buffer("offsets", offsets.sign() * (offsets.abs() + 1).log(), persistent=False)
        self.up = init.linear(len(self.window), hidden)
        self.dropout = nn.Dropout(dropout)
        self.down = init.linear(hidden, heads)

    def rows(self) -> Tensor:
        return self.down(self.dropout(self.up(self.offsets).relu()))


class DynamicMLP(WindowBias):
    """The bias as a network of the offset itself, `(rows, columns)`: three hidden layers, each normed before its ReLU.

    The dynamic position bias (DPB): Wang et al. 2021 (CrossFormer), arXiv:2108.00154, section 3.2 and figure 3b. For a
    window that stays, its `rows` are a `RelativeTable`.

    Args:
        heads: heads of the attention.
        window: side of the window along each axis.
        hidden: width of the network (None: twice the heads, a 16th of the channels of 32-channel heads, as published).
    """

    name = "dynamic_mlp"
    papers = ("crossformer",)
    tiny = {"heads": 2, "window": (3, 3)}
    offsets: Tensor

    def __init__(self, heads: int, window: Sequence[int], *, hidden: int | None = None):
        super().__init__(window)
        hidden = 2 * heads if hidden is None else hidden
        self.register_buffer("offsets", relative_offsets(self.window), persistent=False)
        layers: list[nn.Module] = [init.linear(len(self.window), hidden)]
        for width in (hidden, hidden, heads):
            layers += [nn.LayerNorm(hidden), nn.ReLU(), init.linear(hidden, width)]
        self.mlp = nn.Sequential(*layers)

    def rows(self) -> Tensor:
        return self.mlp(self.offsets)
