"""Train one model on one task. `TrainConfig` is readable without torch; `train` imports it when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyformer.lab.train.config import TrainConfig

if TYPE_CHECKING:
    from anyformer.lab.train.loop import Diverged, TrainResult, train

__all__ = ["Diverged", "TrainConfig", "TrainResult", "train"]


def __getattr__(name: str) -> Any:
    if name in ("Diverged", "TrainResult", "train"):
        from anyformer.lab.train import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
