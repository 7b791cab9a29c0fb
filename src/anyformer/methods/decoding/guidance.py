"""Guidance without a classifier: any denoiser that knows a null class leans towards the class that it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anyformer.core.errors import OptionError

Denoiser = Callable[..., Tensor]
"""`model(x, t, labels)`, or `model(x, t)`."""


def guided(model: Denoiser, scale: float, null: int, channels: int) -> Denoiser:
    """A denoiser that leans towards its label: null + scale (label - null), in the first `channels` channels.

    Classifier-free guidance, Ho and Salimans 2022, arXiv:2207.12598, equation 6 with scale = 1 + w: 1 is the model
    itself. What follows those channels (the variance) is that with the label. Cost: two samples for one.

    Args:
        model: `model(x, t, labels)`.
        scale: of the guidance.
        null: number of the null class.
        channels: of the image.
    """

    def denoise(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([labels, torch.full_like(labels, null)]))
        told, plain = both.chunk(2)
        lean = torch.lerp(plain[:, :channels], told[:, :channels], scale)
        return torch.cat([lean, told[:, channels:]], 1)

    return denoise


def guidance(model: Any, scale: float, labels: Tensor | None, channels: int) -> Denoiser:
    """The model, guided where a scale other than 1 is asked for. Raises `OptionError` where it cannot be."""
    if scale == 1.0:
        return model
    label = getattr(model, "label", None)
    if labels is None or label is None:
        raise OptionError(
            f"guidance (scale={scale}) leans towards a label, and there is none: "
            "give labels to a model that knows classes."
        )
    return guided(model, scale, label.null, channels)
