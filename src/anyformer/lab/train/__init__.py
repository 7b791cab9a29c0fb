"""Train one model on one task. `TrainConfig` is readable without torch; `train` imports it when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anyformer.lab.train.config import TrainConfig

if TYPE_CHECKING:
    from anyformer.lab.train.loop import TrainResult, train
    from anyformer.lab.train.stepper import Diverged

__all__ = ["Diverged", "TrainConfig", "TrainResult", "train"]


LATER = {"Diverged": "stepper", "TrainResult": "loop", "train": "loop"}
"""What needs torch, and the file it stands in."""


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
