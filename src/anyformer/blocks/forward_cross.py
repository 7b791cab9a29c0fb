"""A stage whose blocks hand summaries of their maps on to all blocks after them (FcaFormer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.local_conv import LocalConvPreNorm
from anyformer.blocks.pyramid import Stage
from anyformer.core.build import signature
from anyformer.core.errors import FitError
from anyformer.core.registry import part_class
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec, as_spec
from anyformer.layers.embedding.patch import StridedConv

Forwarded = tuple[Tensor, tuple[Tensor, ...]]
"""A map `(b, *grid, c)`, and the cross tokens `(b, s, c)` of each block before, earliest first."""


class FcaPreNorm(LocalConvPreNorm):
    """`LocalConvPreNorm` that sees the cross tokens of earlier blocks and adds its own: a `Forwarded` to the next.

    Its cross tokens are a depthwise convolution of the map between its two branches, of stride `summary` and a kernel
    of twice as much less one (token merge and enhancement, TME): Zhang et al. 2022, arXiv:2211.07198, section 3. A
    map alone, as a first block has it, is taken too, and then given back alone.

    Args:
        dim, grid, options: as `LocalConvPreNorm`'s.
        mixer: one that takes cross tokens (an option `earlier`, and `cross` in its forward), such as forward_cross; any
            other stands without them.
        earlier, later: blocks of the stage before and after that hand theirs on to it, and get its own.
        summary: tokens along each axis that become one cross token.
    """

    name = "fca_prenorm"
    papers = ("fcaformer",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec,
        earlier: int = 0,
        later: int = 0,
        summary: int = 4,
        grid: Sequence[int | None] | None = None,
        **options: Any,
    ):
        mixer = as_spec(mixer, "mixer")
        asks = "earlier" in signature(part_class(mixer.name))
        if asks:
            mixer = mixer.set(earlier=earlier, summary=summary)
        super().__init__(dim, mixer=mixer, grid=grid, **options)
        self.earlier = earlier if asks else 0
        self.merge = None
        if asks and later:
            rank, kernel = 2 if grid is None else len(grid), 2 * summary - 1
            # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
            self.merge = StridedConv(
                dim, dim, kernel=kernel, stride=summary, padding=kernel // 2, groups=dim, rest="drop", bias=False,
                std=kernel ** (-rank / 2), rank=rank, what=self.name,
            )  # fmt: skip

    def forward(self, x: Tensor | Forwarded, segments: Segments | None = None) -> Any:
        x, handed = (x, None) if isinstance(x, Tensor) else x
        seen = tuple(handed or ())[-self.earlier :] if self.earlier else ()
        if len(seen) < self.earlier:
            raise FitError(
                f"{self.name} was built for the cross tokens of {self.earlier} earlier block(s), and given those of "
                f"{len(seen)}: it stands in an fca_stage, which hands them on."
            )
        if seen:
            cross = torch.cat(seen, 1)
            x = self.branch(x, self.norm1, lambda y: self.mixer(y, segments, cross), self.residual1)
        else:
            x = self.mixed(x, segments)
        if self.merge is not None:
            handed = (*(handed or ()), self.merge(x if segments is None else segments.zero(x)).flatten(1, -2))
        x = self.channels(self.local_norm(self.local(x, segments)), segments)
        return x if handed is None else (x, handed)


class FcaStage(Stage):
    """A stage of `FcaPreNorm` blocks, each seeing the cross tokens of up to `most` blocks before it.

    Zhang et al. 2022, arXiv:2211.07198, section 3. A block costs more the later it is, linearly.

    Args:
        dim, depth, block, options: as `Stage`'s; one block, which is repeated.
        most: blocks whose cross tokens a block sees; the last ones. 0 for none.

    Raises:
        FitError: class tokens, as cross tokens are made of a map; several blocks, or another kind.
    """

    name = "fca_stage"
    papers = ("fcaformer",)

    def __init__(self, dim: int, *, depth: int, block: Spec, most: int = 12, **options: Any):
        if options.get("prefix"):
            raise FitError(f"{self.name} has no class tokens, as cross tokens are made of a map; given prefix.")
        block = as_spec(block, "block") if isinstance(block, Spec | str | dict) else block
        if not isinstance(block, Spec) or "earlier" not in signature(part_class(block.name)):
            raise FitError(
                f"{self.name} repeats one block that hands cross tokens on, such as fca_prenorm; given {block}."
            )
        later = [depth - 1 - i if most else 0 for i in range(depth)]
        blocks = [block.set(earlier=min(i, most), later=later[i]) for i in range(depth)]
        super().__init__(dim, depth=depth, block=blocks, **options)

    def mix(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        mixed = self.blocks((x, ()))  # type: ignore[arg-type]
        return mixed[0]
