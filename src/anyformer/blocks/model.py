"""What every model offers beside its forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anyformer.blocks.stack import Stack
from anyformer.blocks.taps import tapping
from anyformer.core.part import Part
from anyformer.core.spec import Spec


class Model(Part):
    """A whole model. `spec` is what it was built from, `family` the table that it comes from, if any."""

    kind = "model"
    built_from: Spec | None = None
    family: str | None = None
    variant: str | None = None

    def __call__(self, *inputs: Any, taps: Sequence[str] | str = (), **options: Any) -> Any:
        """`forward`; with `taps`, also a dictionary of named intermediates: `(output, {name: tensor})`.

        `taps` are module paths, `*` patterns, or "attention" for all attention maps.
        """
        if not taps:
            return super().__call__(*inputs, **options)
        with tapping(self, taps if not isinstance(taps, str) else [taps]) as found:
            output = super().__call__(*inputs, **options)
        return output, found

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Inputs of the right shapes: random images of `size`, or random ids of this length."""
        raise NotImplementedError

    def gradient_checkpointing(self, on: bool = True) -> Model:
        """Recompute activations of every block in the backward pass: less memory, about a third more time."""
        for module in self.modules():
            if isinstance(module, Stack):
                module.checkpointing = on
        return self

    def num_parameters(self, trainable: bool = False) -> int:
        """Parameters; shared ones count once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trainable)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class ImageModel(Model):
    """A model that takes images `(b, in_channels, *image_size)`."""

    image_size: tuple[int, ...]
    in_channels: int

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        shape = self.image_size if size is None else sides(size, len(self.image_size))
        weight = next(self.parameters())
        return (torch.randn(batch, self.in_channels, *shape, device=weight.device, dtype=weight.dtype),)


def sides(size: int | Sequence[int], rank: int = 2) -> tuple[int, ...]:
    """An image size as a tuple: 224 is (224, 224)."""
    return (size,) * rank if isinstance(size, int) else tuple(size)


def channels_first(x: Tensor) -> Tensor:
    """Tokens `(b, *grid, c)` as a map `(b, c, *grid)`."""
    return x.movedim(-1, 1)
