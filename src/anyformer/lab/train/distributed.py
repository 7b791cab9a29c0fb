"""One process or many: who I am, how a model is spread, and sums over all. `torchrun` starts the processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from anyformer.core.errors import OptionError


@dataclass(frozen=True)
class Group:
    """This process among all: its `rank` of `world`, and its `device`."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of every process's tensor."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def total(self, count: int) -> int:
        """The sum of every process's whole number."""
        return count if self.world == 1 else int(self.sum(torch.tensor(count, device=self.device)))

    def lead(self, value: Any) -> Any:
        """The leading process's value, at every process."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    def agree(self, problem: Exception | None) -> None:
        """Wait for all; raise at every process what went wrong at one, so that none waits for ever."""
        problems: list[Any] = [None] * self.world
        if self.world > 1:
            dist.all_gather_object(problems, problem)
        else:
            problems = [problem]
        for one in problems:
            if one is not None:
                raise one


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that `torchrun` started this process in, or a group of one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    here = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if here.type == "cuda":
        torch.cuda.set_device(here)
    if world == 1:
        yield Group(0, 1, here)
        return
    mine = not dist.is_initialized()
    if mine:
        cuda = here.type == "cuda"
        dist.init_process_group("nccl" if cuda else "gloo", device_id=here if cuda else None)
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), here)
    finally:
        if mine:
            dist.destroy_process_group()


def leave(code: int = 0) -> NoReturn:
    """End this process of many, its output written, with an exit code, and without taking the interpreter down.

    Gloo's threads may hold the last reference to a tensor, and abort the process where they drop it in an interpreter
    that is going (pytorch/pytorch pull request 179291); all work is done by then, but torchrun would call it failed.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of this name; "auto" is a GPU where there is one, each process of a machine its own.

    Raises `OptionError` for a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local_rank)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(f"there is no device {name!r} here ({reason}): use device='cpu' or 'auto'.") from error
    return device


def spread(model: nn.Module, group: Group, strategy: Literal["replicate", "shard"]) -> nn.Module:
    """The model as all processes train it: as it is, copied (DDP), or with its weights cut up (FSDP2).

    FSDP2 gathers one block at a time: the blocks are what stands in the model's module lists.
    """
    if group.world == 1:
        return model
    if strategy == "replicate":
        from torch.nn.parallel import DistributedDataParallel

        devices = [group.device] if group.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(group.device.type, (group.world,))
    for holder in model.modules():
        if isinstance(holder, nn.ModuleList):
            for block in holder:
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)  # so that measuring leaves the weights cut up
    return model


def gathering(model: nn.Module, last: bool):
    """Around a micro-batch's backward pass: gradients are summed over the processes in the last one only."""
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be cut up over processes, put together at each of them."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
