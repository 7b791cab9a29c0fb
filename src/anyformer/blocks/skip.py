"""Skip connections of a U-shape: how a map of the way down joins the one that comes back up."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.part import Part


class Skip(Part):
    """Joins `x` `(b, *grid, inputs)`, coming up, and `skip` `(b, *grid, skip_dim)` to `(b, *grid, dim)`.

    `inputs` is how many channels it wants of what comes up.
    """

    kind = "skip"
    inputs: int

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        raise NotImplementedError


class ConcatSkip(Skip):
    """Both side by side: the way up has the channels of the way down, and `dim - skip_dim` of its own.

    Wang et al. 2021 (Uformer), arXiv:2106.03106, section 3.1. No parameters.
    """

    name = "concat"
    papers = ("uformer",)
    tiny = {"skip_dim": 4}

    def __init__(self, dim: int, skip_dim: int):
        super().__init__()
        if dim <= skip_dim:
            raise OptionError(
                f"concat sets the {skip_dim} channels of the way down beside others, so a stage on the way up has more "
                f"than {skip_dim}; given dim={dim}: take {2 * skip_dim}, or skip='project'."
            )
        self.inputs = dim - skip_dim

    def forward(self, x: Float[Tensor, "b *grid i"], skip: Float[Tensor, "b *grid s"]) -> Float[Tensor, "b *grid c"]:
        return torch.cat([x, skip], -1)


class ProjectSkip(Skip):
    """A linear map of both side by side. Cost: tokens (dim + skip_dim) dim multiply-adds."""

    name = "project"
    tiny = {"skip_dim": 4}

    def __init__(self, dim: int, skip_dim: int):
        super().__init__()
        self.inputs = dim
        self.linear = init.linear(dim + skip_dim, dim)

    def forward(self, x: Float[Tensor, "b *grid i"], skip: Float[Tensor, "b *grid s"]) -> Float[Tensor, "b *grid c"]:
        return self.linear(torch.cat([x, skip], -1))
