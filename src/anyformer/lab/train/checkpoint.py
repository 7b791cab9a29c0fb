"""Checkpoints: all that a run needs to go on, written so that a whole one exists at every moment.

A checkpoint is a folder of safetensors (each process writes its part, through `torch.distributed.checkpoint`) and
`run.json`. It is written under another name, brought to the disk, and renamed: a kill, or a full disk, leaves the one
before as it was. Nothing in it is code, and any number of processes can read it.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException

from anyformer.core.errors import AnyformerError, CheckpointError
from anyformer.core.files import write_whole
from anyformer.lab.train.distributed import Group

KEPT = 2
"""Checkpoints that stay; older ones are removed when a newer one is whole."""


def prepare_folder(out: Path) -> None:
    """Make the output folder; raise `AnyformerError` where it cannot be written."""
    probe = out / f".probe-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror
        raise AnyformerError(f"the output folder {out} cannot be written ({reason}): choose another.") from error


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(p for p in (out / "checkpoints").glob("step_*") if (p / "run.json").is_file())


def save(out: Path, tensors: dict[str, Tensor], facts: dict[str, Any], group: Group) -> Path:
    """Write the checkpoint of step `facts["step"]`. Every process calls it.

    Raises `CheckpointError` where the disk is full or the folder gone; the checkpoint before stays whole.
    """
    final = out / "checkpoints" / f"step_{facts['step']:09d}"
    partial = final.with_name(f".{final.name}.partial")
    problem = None
    try:
        if group.leads:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
    except OSError as error:
        problem = _refusal(final, error)
    group.agree(problem)
    try:
        _write_tensors(partial, tensors, group)
        if group.leads:
            (partial / "run.json").write_text(json.dumps(facts, indent=1))
            for file in partial.iterdir():
                sync(file)
            sync(partial)
            shutil.rmtree(final, ignore_errors=True)  # of an earlier life of this run, after an older checkpoint
            partial.rename(final)
            sync(final.parent)
            for old in checkpoints(out)[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, CheckpointException) as error:
        problem = _refusal(final, error)
        if group.leads:
            shutil.rmtree(partial, ignore_errors=True)
    group.agree(problem)
    return final


def load(folder: Path, tensors: dict[str, Tensor], group: Group) -> None:
    """Read a checkpoint into these tensors, in place. Every process calls it.

    Raises `CheckpointError` where it is damaged or holds other tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that one process works alone is what we asked for
            reader = HuggingFaceStorageReader(str(folder))
            held = reader.read_metadata().state_dict_metadata
            for name, tensor in tensors.items():
                if name not in held:
                    raise CheckpointError(f"{folder} is of another model: it holds no {name}.")
                shape = tuple(held[name].size)  # type: ignore[union-attr]
                if shape != tuple(tensor.shape):
                    now = tuple(tensor.shape)
                    raise CheckpointError(f"{folder} is of another model: {name} is {shape} in it and {now} here.")
            dcp.load(dict(tensors), storage_reader=reader, no_dist=group.world == 1)
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:  # torch's is no Exception; damage shows as many kinds
        raise CheckpointError(
            f"the checkpoint {folder} cannot be read ({_reason(error)}): remove it to go on from the one before."
        ) from error


def load_facts(folder: Path) -> dict[str, Any]:
    """A checkpoint's `run.json`."""
    try:
        return json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'run.json'} cannot be read ({error}): remove {folder}.") from error


def _write_tensors(folder: Path, tensors: dict[str, Tensor], group: Group) -> None:
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dcp.save(dict(tensors), storage_writer=writer, no_dist=group.world == 1)


def write_atomically(path: Path, data: bytes | str) -> None:
    """`core.files.write_whole` for what is in memory."""
    write_whole(path, lambda partial: partial.write_bytes(data.encode() if isinstance(data, str) else data))


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refusal(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be written ({_reason(error)}); what was written before it is whole. Make room and go on with "
        f"resume=True."
    )


def _reason(error: BaseException) -> str:
    """The innermost error in one line: `torch.distributed.checkpoint` wraps what each process met."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).strip().splitlines()[0]
