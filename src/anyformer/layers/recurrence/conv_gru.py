"""The convolutional gated recurrent unit: a state on a grid, updated from what lies around."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError


class ConvGRUCell(nn.Module):
    """One update of maps: h' = (1 - z) h + z tanh(W_q [r h, x]), with z, r = sigmoid(W_z [h, x]), sigmoid(W_r [h, x]).

    Ballas et al. 2015, arXiv:1511.06432, equations 10 to 13; all W are convolutions that keep the grid. `gates` holds
    W_z and W_r. Cost: 3 (inputs + hidden) hidden kernel multiply-adds a place.

    Args:
        inputs: channels of x.
        hidden: channels of the state h.
        kernel: height and width of the convolutions; odd.
    """

    def __init__(self, inputs: int, hidden: int, kernel: Sequence[int]):
        super().__init__()
        if len(kernel) != 2 or any(side < 1 or side % 2 == 0 for side in kernel):
            raise OptionError(f"a kernel of a ConvGRU is two odd numbers, height and width; given {tuple(kernel)}.")
        height, width = kernel
        around = (height // 2, width // 2)
        self.gates = nn.Conv2d(hidden + inputs, 2 * hidden, (height, width), padding=around)
        self.candidate = nn.Conv2d(hidden + inputs, hidden, (height, width), padding=around)

    def forward(self, h: Float[Tensor, "b d h w"], x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b d h w"]:
        z, r = self.gates(torch.cat([h, x], 1)).sigmoid().chunk(2, 1)
        q = self.candidate(torch.cat([r * h, x], 1)).tanh()
        return (1 - z) * h + z * q


class ConvGRU(nn.Module):
    """Cells one after the other, each with a kernel of its own, all from the same input: state `(b, hidden, h, w)`.

    One 3x3 kernel is the plain unit. ((1, 5), (5, 1)) is the separable one of Teed and Deng 2020 (RAFT),
    arXiv:2003.12039, appendix A: along rows, then along columns, which sees 5x5 places for 10 weights.

    Args:
        inputs, hidden: as `ConvGRUCell`'s.
        kernels: height and width for each cell.

    Raises:
        OptionError: no kernel, or one with an even side.
    """

    def __init__(self, inputs: int, hidden: int, kernels: Sequence[Sequence[int]] = ((3, 3),)):
        super().__init__()
        if not kernels:
            raise OptionError("a ConvGRU has a kernel for each of its cells; given none: take ((3, 3),).")
        self.cells = nn.ModuleList(ConvGRUCell(inputs, hidden, kernel) for kernel in kernels)

    def forward(self, h: Float[Tensor, "b d h w"], x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b d h w"]:
        for cell in self.cells:
            h = cell(h, x)
        return h
