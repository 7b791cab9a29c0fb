"""Re-parameterization: what training keeps apart becomes one layer for inference, with the same outputs.

A batch norm in evaluation is a linear map of each channel, so that it folds into the linear layer or convolution
before it; parallel linear branches add up to one. Ding et al. 2021 (RepVGG), arXiv:2101.03697, section 3.3; for
"CONV-BN" in EfficientFormer, arXiv:2206.01191, section 3. A part says in `folds` which of its norms follows which of
its layers (attribute to attribute; lists of modules pairwise), and in a method `merge_branches` how its branches become
one; nothing is guessed from the order of modules.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anyformer.core.errors import FitError
from anyformer.layers.normalization.frozen import FrozenBatchNorm
from anyformer.layers.normalization.norms import BatchNorm

M = TypeVar("M", bound=nn.Module)
FOLDABLE = (BatchNorm, FrozenBatchNorm)
"""Norms that are a linear map of each channel in evaluation."""


def reparameterize(model: M) -> M:
    """A copy of the model for inference, in evaluation mode: batch norms folded, branches merged; the same outputs.

    The original is left as it is. A copy cannot be trained on as the original could: its norms no longer follow the
    data. Its state has the shapes of the folded layers, so that it no longer loads the authors' weights.

    Raises:
        FitError: nothing in the model folds or merges; it is in training mode; its branches were merged before.
    """
    if any(isinstance(module, BatchNorm) and module.training for module in model.modules()):
        raise FitError(
            "this model is in training mode, where its batch norms follow each batch and are no fixed map that could "
            "be folded: call model.eval() first."
        )
    folded = copy.deepcopy(model).eval()
    changed = 0
    for module in folded.modules():
        for layer, norm in getattr(module, "folds", {}).items():
            changed += _fold(module, layer, norm)
    for module in list(folded.modules()):
        merge: Any = getattr(module, "merge_branches", None)
        if merge is not None:
            merge()
            changed += 1
    if not changed:
        raise FitError(
            f"nothing in this {type(model).__name__} folds: re-parameterization takes models whose parts have batch "
            "norms behind linear layers or convolutions, or branches that merge, such as efficientformer_l1."
        )
    return folded


def _fold(module: nn.Module, layer: str, norm: str) -> int:
    """Fold the norms of one attribute into the layers of another; how many were."""
    layers, norms = getattr(module, layer), getattr(module, norm)
    if isinstance(norms, FOLDABLE):
        fold_norm(layers, norms)
        setattr(module, norm, nn.Identity())
        return 1
    folded = 0
    if isinstance(norms, nn.ModuleList):
        for i, (one, after) in enumerate(zip(layers, norms, strict=True)):
            if isinstance(after, FOLDABLE):
                fold_norm(one, after)
                norms[i] = nn.Identity()
                folded += 1
    return folded


@torch.no_grad()
def fold_norm(layer: Any, norm: nn.Module) -> None:
    """Write norm(layer(x)) into the layer, whose weight has its outputs first: W' = s W, b' = s (b - mean) + beta."""
    scale, shift = linear_form(norm)
    weight, bias = layer.weight, layer.bias
    weight.mul_(scale.view(-1, *[1] * (weight.dim() - 1)))
    layer.bias = nn.Parameter(shift.clone() if bias is None else scale * bias + shift)


def linear_form(norm: Any) -> tuple[Tensor, Tensor]:
    """A batch norm in evaluation as scale and shift of each channel."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


METHODS = {"reparameterize": reparameterize}
