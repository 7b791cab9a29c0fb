"""What a training run is asked to do. Readable without torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from anyformer.core.errors import OptionError, suggest
from anyformer.lab.budget import parse_budget

FREE = ("evaluations", "checkpoint_every", "log_every", "device", "tensorboard")
"""Options that a resumed run may change: the weights do not depend on them."""


@dataclass(frozen=True)
class Optimizer:
    """What the loop has to know of an optimizer.

    Attributes:
        target: "module:Class"; built from groups of parameters, `lr` and `betas`.
        betas: where a run names none.
        state: its tensors of each parameter's shape, which start as zeros.
        counts: its counters of each parameter (float32 scalars).
        options: of the constructor.
    """

    target: str
    betas: tuple[float, ...]
    state: tuple[str, ...]
    counts: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


OPTIMIZERS = {
    "adamw": Optimizer(
        "torch.optim:AdamW", (0.9, 0.999), ("exp_avg", "exp_avg_sq"), counts=("step",), options={"fused": True}
    ),
    "adan": Optimizer(
        "anyformer.methods.optimization.adan:Adan",
        (0.98, 0.92, 0.99),
        ("exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad"),
    ),
}
"""Optimizers by name: another one is another row."""

_LIMITS: dict[str, tuple[float, float]] = {
    "batch_size": (1, math.inf),
    "accumulate": (1, math.inf),
    "weight_decay": (0, math.inf),
    "warmup": (0, 1),
    "final_rate": (0, 1),
    "label_smoothing": (0, 1),
    "mixup": (0, math.inf),
    "cutmix": (0, math.inf),
    "evaluations": (1, math.inf),
    "checkpoint_every": (1, math.inf),
    "log_every": (1, math.inf),
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Every default is a sound start for a small model.

    Attributes:
        budget: "60s", "500steps", "10epochs", "2e14flop"; see `anyformer.lab.budget`.
        batch_size: samples per optimizer step, over all processes and micro-batches together.
        accumulate: micro-batches that one process's share of a batch is computed in; changes memory, not the result.
        optimizer: "adamw" or "adan", a row of `OPTIMIZERS`.
        learning_rate: at the top of the schedule; Adan's is several times AdamW's.
        weight_decay: of matrices; norms, biases and other vectors have none.
        betas: of the optimizer; None for its own.
        warmup: share of the budget in which the rate rises linearly.
        final_rate: rate at the end of the cosine, as a share of the top.
        clip: largest norm of the gradient; None for no limit.
        label_smoothing: share of the target that goes to all classes alike.
        mixup, cutmix: parameter of the Beta distribution of shares; 0 for none. One excludes the other.
        ema: decay of the moving average of the weights, such as 0.999, which is then measured and returned; or None.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 on GPUs that have it.
        seed: of the starting weights, the order of the data, the augmentation and dropout.
        evaluations: how many times the validation part is measured, evenly over the budget, the last at its end.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...
        strategy: of several processes: "replicate" (DDP) or "shard" (FSDP2).
        tensorboard: also write TensorBoard's files (needs the extra [logging]).
    """

    budget: str = "10epochs"
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, ...] | None = None
    warmup: float = 0.05
    final_rate: float = 0.01
    clip: float | None = 1.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    evaluations: int = 5
    checkpoint_every: int = 200
    log_every: int = 10
    device: str = "auto"
    strategy: Literal["replicate", "shard"] = "replicate"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        parse_budget(self.budget)
        for option, (low, high) in _LIMITS.items():
            value = getattr(self, option)
            if not low <= value <= high:
                limit = f"{low} or more" if high == math.inf else f"{low} to {high}"
                raise OptionError(f"{option} takes {limit}; given {value!r}.")
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"there is no optimizer {self.optimizer!r}; {suggest(self.optimizer, OPTIMIZERS)}")
        count = len(OPTIMIZERS[self.optimizer].betas)
        if self.betas is not None and not (len(self.betas) == count and all(0 <= b < 1 for b in self.betas)):
            raise OptionError(
                f"betas of {self.optimizer} are {count} numbers of at least 0 and below 1, or None for its own; "
                f"given {self.betas!r}."
            )
        if not 0 < self.learning_rate < math.inf:
            raise OptionError(f"learning_rate is more than 0; given {self.learning_rate!r}.")
        if self.clip is not None and not self.clip > 0:
            raise OptionError(f"clip is more than 0, or None for no limit; given {self.clip!r}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise OptionError(f"ema is a decay between 0 and 1, such as 0.999, or None; given {self.ema!r}.")
        if self.mixup and self.cutmix:
            raise OptionError("mixup and cutmix exclude each other: set one of them to 0.")
        for option, known in (("precision", ("auto", "float32", "bfloat16")), ("strategy", ("replicate", "shard"))):
            if getattr(self, option) not in known:
                raise OptionError(f"{option} is one of {', '.join(known)}; given {getattr(self, option)!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for logs and checkpoints."""
        betas = None if self.betas is None else list(self.betas)
        return {**dataclasses.asdict(self), "betas": betas, "budget": str(self.budget)}

    def binding(self) -> dict[str, Any]:
        """The options on which the final weights depend: a resumed run has to have the same."""
        return {option: value for option, value in self.to_dict().items() if option not in FREE}
