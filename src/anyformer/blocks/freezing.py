"""Models around a pretrained one that may be frozen."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from anyformer.blocks.model import Model
from anyformer.core.errors import FitError


class Freezing(Model):
    """A model with a pretrained module inside; its class says in `pretrained` which."""

    pretrained: ClassVar[str]
    frozen: bool = False

    def freeze(self, on: bool = True) -> Self:
        """Train all but the pretrained module (or, with False, all): its weights and running statistics stay.

        Raises `FitError` where there is none.
        """
        if self.inner() is None:
            raise FitError(f"this {self.name} was built without its {self.pretrained}: there is nothing to freeze.")
        self.frozen = on
        self.inner().requires_grad_(not on)
        return self.train(self.training)

    def inner(self) -> Any:
        """The pretrained module."""
        return getattr(self, self.pretrained)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.inner().eval()  # what keeps running statistics keeps those of pretraining, and nothing is dropped
        return self
