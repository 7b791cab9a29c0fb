"""An MLP with norms around its layers."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.layers.feedforward.mlp import MLP

NORM = Spec("batchnorm")


class NormedMLP(MLP):
    """norm(W2 act(norm(W1 norm(x)))), each norm where one is given; each token alone, but for training's batch norms.

    With batch norms behind both layers, the MLP of 1x1 convolutions of EfficientFormer's early blocks, which folds to
    a plain one for inference (`methods/compression/reparameterization.py`): Li et al. 2022, arXiv:2206.01191, section
    4.1. With a layer norm in front, the second one there, that of FcaFormer (arXiv:2211.07198) as its authors wrote it.

    Args:
        dim: channels.
        in_norm: norm of the tokens; None for none.
        hidden_norm: norm of the hidden channels, before the activation.
        out_norm: norm of what the second layer gives.
        options: the others of `MLP`; the ratio is that of hidden channels.
    """

    name = "normed_mlp"
    papers = ("efficientformer", "fcaformer")
    folds: ClassVar[dict[str, str]] = {"up": "hidden_norm", "down": "out_norm"}

    def __init__(
        self,
        dim: int,
        *,
        in_norm: Spec | None = None,
        hidden_norm: Spec | None = NORM,
        out_norm: Spec | None = NORM,
        **options: Any,
    ):
        super().__init__(dim, **options)

        def norm(spec: Spec | None, width: int) -> nn.Module:
            return nn.Identity() if spec is None else build(spec, "norm", dim=width)

        self.in_norm = norm(in_norm, dim)
        self.hidden_norm = norm(hidden_norm, self.up.out_features)
        self.out_norm = norm(out_norm, dim)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        hidden = self.act(self.hidden_norm(self.up(self.in_norm(x))))
        return self.out_norm(self.down(self.dropout(hidden)))
