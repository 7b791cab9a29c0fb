"""AlgoFormer: a Transformer that prepares, one that loops, and one that reads out, on examples given in context.

Gao et al. 2024, arXiv:2402.13572. The vanilla looped Transformer (Yang et al. 2023, arXiv:2311.12424) is a loop alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.spec import Spec

PAPERS = ("algoformer",)


def in_context(x: Float[Tensor, "b n d"], y: Float[Tensor, "b n"]) -> Float[Tensor, "b m k"]:
    """A prompt `(b, 2 n - 1, d + 1)`: x_1, y_1, x_2, ..., x_n, each x as (x, 0) and each y as (0, ..., 0, y)."""
    pairs = torch.stack([nn.functional.pad(x, (0, 1)), nn.functional.pad(y[..., None], (x.shape[-1], 0))], 2)
    return pairs.flatten(1, 2)[:, :-1]


class AlgoFormer(Model):
    """Prompts of examples x_1, y_1, ..., x_n `(b, 2 n - 1, inputs + 1)` to the y that follows each x, `(b, n)`.

    Read-in, `before` blocks, then `loop` blocks applied `loops` times with the prepared prompt added before each time,
    then `after` blocks and a linear read-out. Every x sees the examples before it. Gao et al. 2024, arXiv:2402.13572,
    section 3. Parameters do not depend on the loops. Cost: (before + loop loops + after) blocks over 2 n tokens.

    Args:
        dim, block: channels; the block of all three parts.
        inputs: numbers of an x.
        before, loop, after: blocks of each part; 0, any, 0 is the vanilla looped Transformer.
        loops: how many times the middle is applied.
        max_points: examples of a prompt at most.
        position: positions of the prompt's tokens.
        norm: norm before the read-out; None for none.
        loop_norm: norm of every loop's output; None for none.
        dropout, init: as `Isotropic`'s.

    Raises:
        OptionError: fewer than one loop or block of the loop.
        DataError: tokens of x and y do not alternate.
        SizeError: prompts too long, or of another width.
    """

    name = "algoformer"
    papers = ("algoformer",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        block: Spec,
        inputs: int = 5,
        before: int = 1,
        loop: int = 1,
        after: int = 1,
        loops: int = 10,
        max_points: int = 41,
        position: Spec | None = Spec("learned"),
        norm: Spec | None = Spec("layernorm"),
        loop_norm: Spec | None = None,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        if loop < 1:
            raise OptionError(f"{self.name} loops over a block or more; given loop={loop}.")
        self.inputs, self.max_points = inputs, max_points
        grid = (2 * max_points - 1,)
        common: dict[str, Any] = {"dim": dim, "grid": grid, "causal": True, "dropout": dropout}
        layers = before + loop + after
        self.read_in = linear(inputs + 1, dim)
        self.position = build(position, "position", dim=dim, grid=grid) if position is not None else None
        self.before = Stack(block, before, layers=layers, **common)
        middle = Spec("looped", block=Spec("series", block=block, depth=loop), loops=loops, norm=loop_norm)
        self.loop = build(middle, "block", layer=before, layers=layers, **common)
        self.after = Stack(block, after, first=before + loop, layers=layers, **common)
        self.norm = nn.Identity() if norm is None else build(norm, "norm", dim=dim)
        self.read_out = linear(dim, 1)

    def check_prompt(self, prompt: Tensor) -> None:
        """Raise `SizeError` or `DataError` where this is no prompt of x and y in turn."""
        if prompt.dim() != 3 or prompt.shape[-1] != self.inputs + 1 or not prompt.shape[1] <= 2 * self.max_points:
            raise SizeError(
                f"prompts of {self.inputs} inputs and up to {self.max_points} points are (b, up to "
                f"{2 * self.max_points - 1}, {self.inputs + 1}); given {tuple(prompt.shape)}."
            )
        if torch.compiler.is_compiling():
            return
        if bool(prompt[:, ::2, -1].any()) or bool(prompt[:, 1::2, :-1].any()):
            raise DataError(
                "a prompt is x_1, y_1, x_2, y_2, ...: its tokens are (x, 0) and (0, ..., 0, y) in turn; given one "
                "whose x and y do not alternate so: in_context(x, y) makes them."
            )

    def tokens(self, prompt: Float[Tensor, "b m k"]) -> list[Float[Tensor, "b m c"]]:
        """Tokens behind each of the three parts."""
        self.check_prompt(prompt)
        x = self.read_in(prompt)
        x = x if self.position is None else self.position(x)
        prepared = self.before(x)
        solved = self.loop(prepared)
        return [prepared, solved, self.after(solved)]

    def forward(self, prompt: Float[Tensor, "b m k"]) -> Float[Tensor, "b n"]:
        return self.read_out(self.norm(self.tokens(prompt)[-1][:, ::2]))[..., 0]

    def features(
        self, prompt: Float[Tensor, "b m k"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b m c"]]:
        """Tokens behind the chosen of the three parts; with `layers=None`, behind the last one and norm."""
        found = self.tokens(prompt)
        if layers is None:
            return [self.norm(found[-1])]
        if any(not -3 <= i < 3 for i in layers):
            raise OptionError(f"{self.name} has three parts, numbers -3 to 2; given layers={list(layers)}.")
        return [found[i] for i in layers]

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        points = min(self.max_points, 10) if size is None else size if isinstance(size, int) else size[0]
        x = torch.randn(batch, points, self.inputs, device=self.device)
        return (in_context(x, x.sum(-1)),)


def algoformer(dim: int, heads: int, *, ratio: float = 4.0, **options: Any) -> Spec:
    """An AlgoFormer of GPT-2's blocks."""
    block = Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio))
    return Spec("algoformer", dim=dim, block=block, **options)


VARIANTS = {
    # The sizes of Yang et al. 2023, whose code the authors started from: 256 channels, 8 heads.
    "algoformer_regression": algoformer(256, 8, inputs=20),
    "looped_transformer_regression": algoformer(
        256, 8, inputs=20, before=0, after=0, loops=12, norm=None, loop_norm=Spec("layernorm")
    ),
    # Ours, for tests and small data.
    "algoformer_micro": algoformer(32, 4, ratio=2.0, loops=3, max_points=20, init="fan_in"),
}
