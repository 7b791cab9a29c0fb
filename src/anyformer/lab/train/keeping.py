"""What a run leaves in its folder and goes on from: tensors, step and seconds, final weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import AnyformerError, CheckpointError
from anyformer.lab.train import checkpoint
from anyformer.lab.train.distributed import Group, whole
from anyformer.lab.train.optimizer import Average
from anyformer.weights.checkpoint import SPEC, WEIGHTS

if TYPE_CHECKING:
    from anyformer.lab.train.loop import TrainResult


def state_tensors(module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> dict[str, Tensor]:
    """Everything that changes in training, by name; the tensors themselves, so that a checkpoint is read into them."""
    tensors = {f"model.{name}": t for name, t in module.state_dict().items() if isinstance(t, Tensor)}
    for name, p in module.named_parameters():
        tensors |= {f"optimizer.{key}.{name}": t for key, t in optimizer.state.get(p, {}).items()}
    for i, group in enumerate(optimizer.param_groups):  # what an optimizer counts once for a group
        tensors |= {f"optimizer.groups.{i}.{key}": t for key, t in group.items() if isinstance(t, Tensor)}
    if average is not None:
        tensors |= {f"average.{name}": t for name, t in average.weights.items()}
    return tensors


def start(
    folder: Path | None,
    facts: dict[str, Any],
    resume: bool,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    group: Group,
) -> tuple[int, float]:
    """Step and seconds to go on from: those of the last checkpoint, which is read, or zero."""
    if folder is None:
        if resume:
            raise CheckpointError("resume=True goes on from the checkpoints in `out`: name that folder.")
        return 0, 0.0
    problem = None
    if group.leads:
        try:
            checkpoint.prepare_folder(folder)
        except AnyformerError as error:
            problem = error
    group.agree(problem)
    found = group.lead(checkpoint.checkpoints(folder))
    if not found:
        return 0, 0.0
    if not resume:
        raise CheckpointError(
            f"{folder} holds a run already: resume=True (on the command line --resume) goes on with it, or choose "
            "another folder."
        )
    held = checkpoint.load_facts(found[-1])
    for what, now in facts.items():
        if held[what] != now:
            raise CheckpointError(
                f"the run in {folder} was started with another {what} ({difference(held[what], now)}): resume it with "
                f"the same, or choose another folder."
            )
    checkpoint.load(found[-1], state_tensors(module, optimizer, average), group)
    return held["step"], held["seconds"]


def difference(then: Any, now: Any) -> str:
    """The first thing in which two descriptions differ, in words."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:
            if then.get(key) != now.get(key):
                return f"{key} was {then.get(key)!r:.60}, now {now.get(key)!r:.60}"
    return f"was {then!r:.60}, now {now!r:.60}"


def leave(folder: Path, result: TrainResult, spec: str | None, group: Group) -> None:
    """Write the final weights, as `from_pretrained` reads them, the Spec and the result."""
    from safetensors.torch import save

    weights = {name: whole(t).detach().cpu().clone() for name, t in result.model.state_dict().items()}
    problem = None
    if group.leads:
        try:
            note = {"format": "pt"} if spec is None else {"format": "pt", "anyformer": spec}
            checkpoint.write_atomically(folder / WEIGHTS, save(weights, metadata=note))
            if spec is not None:
                checkpoint.write_atomically(folder / SPEC, spec)
            checkpoint.write_atomically(folder / "result.json", json.dumps(result.to_dict(), indent=1))
        except AnyformerError as error:
            problem = error
    group.agree(problem)
