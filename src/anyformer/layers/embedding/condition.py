"""What a denoiser is told beside the noisy image: the time of the diffusion, and a class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.token import TokenEmbedding
from anyformer.layers.position.absolute import SinusoidalPosition


class TimestepEmbedding(Part):
    """W2 silu(W1 [cos, sin](t)): one vector for a time, whole or not: `(b,)` to `(b, dim)`.

    Peebles and Xie 2022 (DiT), arXiv:2212.09748, section 3.2, after Ho et al. 2020, arXiv:2006.11239, appendix B.

    Args:
        dim: channels.
        frequencies: sines and cosines of the time, half each; an even number.
        base: the longest period over 2 pi, in steps.

    Raises:
        OptionError: an odd number of frequencies.
    """

    name = "timestep"
    kind = "embed"
    papers = ("switch_dit",)

    def __init__(self, dim: int, *, frequencies: int = 256, base: float = 10000.0):
        super().__init__()
        if frequencies % 2:
            raise OptionError(f"timestep.frequencies is even, sines and cosines half each; given {frequencies}.")
        self.code = SinusoidalPosition(frequencies, layout="halves", base=base)
        self.up = init.linear(frequencies, dim)
        self.act = build(Spec("silu"), "act")
        self.down = init.linear(dim, dim)

    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b c"]:
        sines, cosines = self.code.table(t).chunk(2, -1)
        return self.down(self.act(self.up(torch.cat([cosines, sines], -1).to(self.up.weight.dtype))))


class LabelEmbedding(Part):
    """A vector for a class: `(b,)` to `(b, dim)`; in training some labels give way to the null class.

    A denoiser that knows the null class can be guided without a classifier: Ho and Salimans 2022, arXiv:2207.12598,
    algorithm 1. The null class is number `num_classes`.

    Args:
        dim: channels.
        num_classes: classes, from 0.
        dropout: share of labels that give way in training; with 0 there is no null class.

    Raises:
        OptionError: no class, or a share outside 0 to 1.
        DataError: a label that is no class.
    """

    name = "label"
    kind = "embed"
    papers = ("switch_dit",)
    tiny = {"num_classes": 3}

    def __init__(self, dim: int, *, num_classes: int, dropout: float = 0.1):
        super().__init__()
        if num_classes < 1 or not 0 <= dropout < 1:
            raise OptionError(
                "a label embedding has a class or more and drops a share of at least 0 and below 1; given "
                f"num_classes={num_classes}, dropout={dropout}."
            )
        self.num_classes, self.dropout = num_classes, dropout
        self.table = TokenEmbedding(dim, vocab_size=num_classes + (dropout > 0))

    @property
    def null(self) -> int:
        """The number of the null class. Raises `OptionError` where there is none."""
        if not self.dropout:
            raise OptionError(
                "this model was built without a null class (label_dropout=0), so it needs a label for every image and "
                "takes no guidance: build it with label_dropout above 0."
            )
        return self.num_classes

    def forward(self, labels: Int[Tensor, "b"]) -> Float[Tensor, "b c"]:
        last = self.num_classes if self.dropout else self.num_classes - 1
        if (
            not torch.compiler.is_compiling()
            and labels.numel()
            and not 0 <= int(labels.min()) <= int(labels.max()) <= last
        ):
            null = f", and the null class {last}" if self.dropout else ""
            raise DataError(
                f"labels are classes 0 to {self.num_classes - 1}{null}; "
                f"given {int(labels.min())} to {int(labels.max())}."
            )
        if self.training and self.dropout:
            dropped = torch.rand(labels.shape, device=labels.device) < self.dropout
            labels = torch.where(dropped, self.num_classes, labels)
        return self.table(labels)
