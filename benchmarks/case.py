"""What a comparison with a peer is: two functions that do the same work; and where the peers come from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from anyformer.core.errors import require


@dataclass
class Case:
    """One comparison: two functions that do the same work."""

    name: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    trains: bool = True
    forget: Callable[[], object] | None = None
    """Called before each pass that goes backward: what theirs keeps of a pass, with its graph."""


def to_tensor(out: Any) -> torch.Tensor:
    """The tensor of what a model returns: logits or the last hidden states."""
    if isinstance(out, torch.Tensor):
        return out
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


def with_backward(run: Callable[[], object]) -> Callable[[], object]:
    """The same work, and the gradients of all weights added to those of the last time."""

    def both() -> None:
        to_tensor(run()).sum().backward()

    return both


@cache
def shells() -> torch.library.Library:
    """Empty shells for torchvision's compiled operators, which have no build for a CPU torch; peers import them.

    A library's operators live as long as the library does, so it is kept.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        # a torchvision that fits brings its own
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def peer(name: str) -> Any:
    """timm, transformers or x-transformers."""
    shells()
    return require(name, "peers")
