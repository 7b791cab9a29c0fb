"""PatchTST: patches of each series alone are tokens, and a linear layer over all of them gives the forecast.

Nie et al. 2022, arXiv:2211.14730.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.spec import Spec
from anyformer.layers.position.absolute import SinusoidalPosition


class CentredSinusoidalPosition(SinusoidalPosition):
    """Fixed sines and cosines, the whole table of a sequence brought to mean 0 and deviation 0.1.

    So in the authors' code of arXiv:2211.14730: values near 1 would outweigh embedded patches at the start. Arguments
    as `SinusoidalPosition`'s.
    """

    name = "centred_sinusoidal"
    papers = ()

    def table(self, positions: Tensor) -> Float[Tensor, "*b n c"]:
        """The code of each position, centred over all that are asked for together."""
        table = super().table(positions)
        return (table - table.mean()) / (10 * table.std())


class PatchTST(Model):
    """Past values `(b, context, channels)` to the `horizon` values that follow, `(b, horizon, channels)`.

    Every channel is a sequence of its own, with the same weights; it is brought to mean 0 and deviation 1 over the
    context and back at the end. arXiv:2211.14730, section 3.1. Cost of mixing: channels (context / stride)^2.

    Args:
        dim, depth, block: channels of a token; blocks; the block.
        context, horizon: past values that are given; future values that are asked for.
        in_channels: series that come together; it binds nothing, as each is forecast alone.
        patch, stride: values of a patch, and from one patch to the next (None: as many as a patch has).
        position: positions of patches.
        norm: norm of the last block's output.
        floor: added to each series' variance over the context, so that a constant one can be divided by it.
        drop_path, dropout, init: as `Isotropic`'s.

    Raises:
        SizeError: another context than configured.
    """

    name = "patchtst"

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        context: int = 512,
        horizon: int = 96,
        in_channels: int = 7,
        patch: int = 12,
        stride: int | None = None,
        position: Spec | None = Spec("centred_sinusoidal"),
        norm: Spec | None = None,
        floor: float = 1e-5,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        if not 1 <= patch <= context:
            raise OptionError(f"a patch has 1 to {context} values, the context; given patch={patch}.")
        self.context, self.horizon, self.in_channels = context, horizon, in_channels
        self.patch, self.stride, self.floor = patch, patch if stride is None else stride, floor
        patches = (context - patch) // self.stride + 1
        self.embed = linear(patch, dim)
        self.position = build(position, "position", dim=dim, grid=(patches,)) if position is not None else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = Stack(
            block, depth, dim=dim, grid=(patches,), drop_path=growing(drop_path, depth), dropout=dropout
        )
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.head = linear(patches * dim, horizon)

    def scaled(self, past: Float[Tensor, "b n i"]) -> tuple[Tensor, Tensor, Tensor]:
        """The past at mean 0 and deviation 1, and the mean and deviation, `(b, 1, i)`."""
        mean = past.mean(1, keepdim=True)
        deviation = (past.var(1, correction=0, keepdim=True) + self.floor).sqrt()
        return (past - mean) / deviation, mean, deviation

    def embedded(self, scaled: Float[Tensor, "b n i"]) -> Float[Tensor, "bi p c"]:
        """Tokens before the first block, each series a row; what no patch reaches at the start is left out."""
        reach = scaled.shape[1] - (scaled.shape[1] - self.patch) % self.stride
        patches = scaled.movedim(-1, 1).flatten(0, 1)[:, -reach:].unfold(-1, self.patch, self.stride)
        x = self.embed(patches)
        return self.dropout(x if self.position is None else self.position(x))

    def check(self, past: Tensor) -> None:
        """Raise `SizeError` unless `past` is a batch of series as long as the context."""
        if past.dim() != 3 or past.shape[1] != self.context:
            raise SizeError(
                f"this model takes (batch, {self.context} past values, channels); given {tuple(past.shape)}: build it "
                "with context= of that length, or cut the series."
            )

    def tokens(self, past: Float[Tensor, "b n i"]) -> Float[Tensor, "b i p c"]:
        """Tokens after the last block and norm."""
        self.check(past)
        x = self.blocks(self.embedded(self.scaled(past)[0]))
        x = x if self.norm is None else self.norm(x)
        return x.unflatten(0, (len(past), -1))

    def forward(self, past: Float[Tensor, "b n i"]) -> Float[Tensor, "b horizon i"]:
        _, mean, deviation = self.scaled(past)
        return self.head(self.tokens(past).flatten(-2)).movedim(1, -1) * deviation + mean

    def features(
        self, past: Float[Tensor, "b n i"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b i p c"]]:
        """Tokens after the chosen blocks; with `layers=None`, after the last block and norm."""
        if layers is None:
            return [self.tokens(past)]
        self.check(past)
        found = self.blocks.outputs(self.embedded(self.scaled(past)[0]), layers)
        return [x.unflatten(0, (len(past), -1)) for x in found]

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random series of the model's context, which takes no other length."""
        return (torch.randn(batch, self.context, self.in_channels, device=self.device),)


def patchtst(dim: int, depth: int, heads: int, hidden: int, dropout: float = 0.0, norm: str = "batchnorm") -> Spec:
    """A PatchTST; its norm in the blocks is batch norm (appendix A.1.4)."""
    block = Spec(
        "prenorm",
        mixer=Spec("attention", heads=heads),
        ffn=Spec("mlp", hidden=hidden, dropout=dropout),
        norm=Spec(norm),
    )
    return Spec("patchtst", dim=dim, depth=depth, block=block, dropout=dropout)


VARIANTS = {
    "patchtst_etth1_forecast": patchtst(128, 3, 16, 256),
    # Ours, for small series and tests.
    "patchtst_micro": patchtst(48, 2, 4, 96, norm="layernorm").set(
        context=192, horizon=24, in_channels=3, patch=12, norm=Spec("layernorm"), init="fan_in"
    ),
}
PAPERS = ()
