"""From tokens to what a task asks for."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class Head(Part):
    """Tokens `(b, *grid, c)` to outputs; `prefix` is how many class tokens it needs at the front."""

    kind = "head"
    prefix: int = 0


class Classifier(Head):
    """Pool, norm, linear: logits `(b, num_classes)`; with num_classes=0, the pooled vector `(b, c)`.

    Args:
        dim: channels.
        num_classes: classes; 0 for none.
        pool: from tokens to one vector.
        norm: norm of that vector (ConvNeXt, MetaFormer baselines).
        dropout: share of its values dropped in training.
    """

    name = "classifier"

    def __init__(
        self,
        dim: int,
        *,
        num_classes: int = 1000,
        pool: Spec = Spec("mean"),
        norm: Spec | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.pool = build(pool, "pool", dim=dim)
        self.prefix = self.pool.prefix
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.dropout = nn.Dropout(dropout)
        self.linear = init.linear(dim, num_classes) if num_classes else None

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        y = self.pool(x, segments, prefix)
        y = y if self.norm is None else self.norm(y)
        return y if self.linear is None else self.linear(self.dropout(y))


class MLPClassifier(Head):
    """Pool, norm, then an MLP to the logits `(b, num_classes)`; with num_classes=0, the pooled vector `(b, c)`.

    linear(norm2(act(linear(norm1(pool(x)))))): ConvFormer's and CAFormer's head (arXiv:2210.13452); without the inner
    norm, that of ConvNeXt's CLIP models.

    Args:
        dim: channels.
        num_classes: classes; 0 for none.
        ratio: hidden channels per channel.
        pool: from tokens to one vector.
        norm: norm of that vector.
        act: activation of the hidden vector.
        hidden_norm: norm of the hidden vector.
        dropout: share of its values dropped in training.
    """

    name = "mlp_classifier"
    papers = ("metaformer_baselines",)

    def __init__(
        self,
        dim: int,
        *,
        num_classes: int = 1000,
        ratio: float = 4.0,
        pool: Spec = Spec("mean"),
        norm: Spec | None = Spec("layernorm"),
        act: Spec = Spec("squared_relu"),
        hidden_norm: Spec | None = Spec("layernorm"),
        dropout: float = 0.0,
    ):
        super().__init__()
        hidden = int(dim * ratio)
        self.pool = build(pool, "pool", dim=dim)
        self.prefix = self.pool.prefix
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.hidden = init.linear(dim, hidden) if num_classes else None
        self.act = build(act, "act")
        self.hidden_norm = build(hidden_norm, "norm", dim=hidden) if num_classes and hidden_norm is not None else None
        self.dropout = nn.Dropout(dropout)
        self.linear = init.linear(hidden, num_classes) if num_classes else None

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        y = self.pool(x, segments, prefix)
        y = y if self.norm is None else self.norm(y)
        if self.hidden is None or self.linear is None:
            return y
        y = self.act(self.hidden(y))
        y = y if self.hidden_norm is None else self.hidden_norm(y)
        return self.linear(self.dropout(y))


class DistilledClassifier(Head):
    """The mean of two linear heads, on the class token and on the distillation token; both logits in training.

    Touvron et al. 2020 (DeiT), arXiv:2012.12877, section 4. In evaluation `(b, num_classes)`.
    """

    name = "distilled_classifier"
    papers = ("deit",)
    prefix: ClassVar[int] = 2

    def __init__(self, dim: int, *, num_classes: int = 1000):
        super().__init__()
        self.linear = init.linear(dim, num_classes) if num_classes else None
        self.distilled = init.linear(dim, num_classes) if num_classes else None

    def both(self, x: Float[Tensor, "b n c"]) -> tuple[Tensor, Tensor]:
        """Logits of the class token and of the distillation token, for a distillation loss."""
        if self.linear is None or self.distilled is None:
            return x[:, 0], x[:, 1]
        return self.linear(x[:, 0]), self.distilled(x[:, 1])

    def forward(self, x: Float[Tensor, "b n c"], segments: Segments | None = None, prefix: int = 0) -> Tensor:
        first, second = self.both(x)
        return (first + second) / 2


class MapHead(Head):
    """A convolution of every token to `num_classes` channels: `(b, *grid, c)` to `(b, *grid, num_classes)`.

    With a kernel of 1, a linear map of each token alone. Cost: tokens c num_classes kernel^rank multiply-adds.

    Args:
        dim: channels.
        num_classes: channels of the output.
        kernel: tokens along each axis that an output looks at; odd.
        std: deviation of the first weights (None: what the model's `init` says).
        rank: axes of the grid.

    Raises:
        OptionError: an even kernel, which would change the grid.
    """

    name = "map_head"

    def __init__(self, dim: int, *, num_classes: int = 2, kernel: int = 1, std: float | None = None, rank: int = 2):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise OptionError(f"map_head.kernel is odd, so that the grid stays as it is; given {kernel}.")
        self.conv = StridedConv(
            dim, num_classes, kernel=kernel, stride=1, padding=kernel // 2, std=std, rank=rank, what=self.name
        )

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b *grid classes"]:
        return self.conv(x)
