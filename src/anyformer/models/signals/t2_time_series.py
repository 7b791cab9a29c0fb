"""The time-series transformer t2: light curves on a regular grid of times to classes, with a map of what decided.

Allam and McEwen 2021, arXiv:2105.06178.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec

Join = Literal["channels", "tokens", "pooled"]


class TimeSeriesClassifier(Model):
    """Curves `(b, n, bands)`, and extra features `(b, f)`, to logits `(b, num_classes)`.

    A convolution of kernel 1 with ReLU embeds each time, positions are added, blocks follow, then the mean over time
    and a linear layer. As both are linear, `activation_map` shares every logit out over the times (Zhou et al. 2016,
    arXiv:1512.04150). Cost of mixing: n^2. Allam and McEwen 2021, arXiv:2105.06178.

    Args:
        dim, depth, block: channels; blocks; the block.
        in_channels: bands.
        extra: features beside the curve (redshift and its error, say); 0 for none.
        join: where they come in, as the authors tried it: "channels" of every time, more "tokens" (each feature one
            token, the same in every band), or beside the "pooled" vector.
        position: positions of times; None for none.
        norm: norm of the last block's output.
        num_classes: classes; 0 for the pooled vector.
        dropout, head_dropout: share of values dropped in training in every branch, and of the pooled vector.
        init: as `Isotropic`'s.

    Raises:
        SizeError: curves of other bands, or extra features of another width than declared, or none where some are.
    """

    name = "time_series_classifier"
    papers = ("t2_time_series",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        in_channels: int = 6,
        extra: int = 0,
        join: Join = "channels",
        position: Spec | None = Spec("sinusoidal"),
        norm: Spec | None = None,
        num_classes: int = 14,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        if extra < 0 or in_channels < 1:
            raise OptionError(f"in_channels is 1 or more, extra 0 or more; given {in_channels} and {extra}.")
        self.in_channels, self.extra, self.join = in_channels, extra, join
        self.embed = linear(in_channels + (extra if join == "channels" else 0), dim)
        self.act = build(Spec("relu"), "act")
        self.position = build(position, "position", dim=dim) if position is not None else None
        self.blocks = Stack(block, depth, dim=dim, grid=(None,), dropout=dropout)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.head_dropout = nn.Dropout(head_dropout)
        width = dim + (extra if join == "pooled" else 0)
        self.head = linear(width, num_classes) if num_classes else None

    def check(self, curves: Tensor, extra: Tensor | None) -> None:
        """Raise `SizeError` for inputs of another width than the model's."""
        if curves.dim() != 3 or curves.shape[-1] != self.in_channels:
            raise SizeError(f"curves are (batch, times, {self.in_channels} bands); given {tuple(curves.shape)}.")
        given = None if extra is None else tuple(extra.shape)
        if given != ((len(curves), self.extra) if self.extra else None):
            raise SizeError(
                f"this model takes {self.extra} extra features a curve, as (batch, {self.extra})"
                f"{'' if self.extra else ', which is none'}; given {given}: build it with extra= of their number."
            )

    def embedded(
        self, curves: Float[Tensor, "b n i"], extra: Float[Tensor, "b f"] | None = None
    ) -> Float[Tensor, "b m c"]:
        """Tokens before the first block: one for each time, behind them one for each feature with join="tokens"."""
        self.check(curves, extra)
        if extra is not None and self.join == "channels":
            curves = torch.cat([curves, extra[:, None].expand(-1, curves.shape[1], -1)], -1)
        elif extra is not None and self.join == "tokens":
            curves = torch.cat([curves, extra[..., None].expand(-1, -1, self.in_channels)], 1)
        x = self.act(self.embed(curves))
        return x if self.position is None else self.position(x)

    def tokens(
        self,
        curves: Float[Tensor, "b n i"],
        extra: Float[Tensor, "b f"] | None = None,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b m c"]:
        """Tokens after the last block and norm."""
        x = self.blocks(self.embedded(curves, extra), segments)
        return x if self.norm is None else self.norm(x)

    def forward(
        self, curves: Float[Tensor, "b n i"], extra: Float[Tensor, "b f"] | None = None
    ) -> Float[Tensor, "b classes"]:
        pooled = self.tokens(curves, extra).mean(1)
        if extra is not None and self.join == "pooled":
            pooled = torch.cat([pooled, extra], -1)
        return pooled if self.head is None else self.head(self.head_dropout(pooled))

    def activation_map(
        self, curves: Float[Tensor, "b n i"], extra: Float[Tensor, "b f"] | None = None
    ) -> tuple[Float[Tensor, "b m classes"], Float[Tensor, "b classes"]]:
        """What each token says for each class, and what is said beside them all.

        The mean of the map over its tokens, plus the rest (the bias, and with join="pooled" the extra features), is the
        logit, in evaluation mode. Raises `OptionError` for a model without a head.
        """
        if self.head is None:
            raise OptionError("an activation map is one of classes; this model was built with num_classes=0.")
        x = self.tokens(curves, extra)
        dim = x.shape[-1]
        rest = self.head.bias.expand(len(x), -1)
        if extra is not None and self.join == "pooled":
            rest = rest + extra @ self.head.weight[:, dim:].T
        return x @ self.head.weight[:, :dim].T, rest

    def features(
        self,
        curves: Float[Tensor, "b n i"],
        extra: Float[Tensor, "b f"] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b m c"]]:
        """Tokens after the chosen blocks; with `layers=None`, after the last block and norm."""
        if layers is None:
            return [self.tokens(curves, extra)]
        return self.blocks.outputs(self.embedded(curves, extra), layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random curves of `size` times (100 unless given), and random extra features where the model takes some."""
        n = 100 if size is None else size if isinstance(size, int) else size[0]
        curves = torch.randn(batch, n, self.in_channels, device=self.device)
        return (curves, torch.randn(batch, self.extra, device=self.device)) if self.extra else (curves,)


def t2(dim: int, heads: int, hidden: int, depth: int) -> Spec:
    """A t2: post-norm encoder blocks with ReLU."""
    block = Spec(
        "postnorm",
        mixer=Spec("attention", heads=heads),
        ffn=Spec("mlp", hidden=hidden, act=Spec("relu")),
        norm=Spec("layernorm", eps=1e-6),
    )
    return Spec("time_series_classifier", dim=dim, depth=depth, block=block, dropout=0.1)


VARIANTS = {
    # The PLAsTiCC classifier: 14 classes, 6 bands, 100 times; with redshift and its error beside every time.
    "t2_plasticc": t2(32, 16, 128, 1).set(head_dropout=0.1),
    "t2_plasticc_with_redshift": t2(32, 16, 128, 1).set(head_dropout=0.1, extra=2, join="channels"),
    # Ours, for small sets of curves and tests.
    "t2_micro": t2(32, 4, 64, 2).set(in_channels=3, num_classes=3, dropout=0.0, init="fan_in"),
}
