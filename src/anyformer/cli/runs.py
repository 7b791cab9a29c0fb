"""Folders that `anyformer train` leaves: which task a run was trained on, and the model that it ended with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyformer.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from anyformer.tasks.task import Task

TASK = "task.json"
"""Name and options of the task, as they were given."""


def write_task(folder: Path, name: str, options: dict[str, Any]) -> None:
    """Note the task of a run; a path in its name is noted as it is seen from anywhere."""
    from anyformer.core.files import write_whole
    from anyformer.lab.train.checkpoint import prepare_folder

    kind, colon, path = name.partition(":")
    if colon and Path(path).exists():
        name = f"{kind}:{Path(path).resolve()}"
    prepare_folder(folder)
    text = json.dumps({"task": name, "options": options}, indent=1) + "\n"
    write_whole(folder / TASK, lambda path: path.write_text(text, encoding="utf-8"))


def read_task(folder: Path, name: str, options: dict[str, Any]) -> Task:
    """The task that is named, or else the one that the run was trained on, with these options over its own."""
    from anyformer.tasks import create_task

    if name:
        return create_task(name, **options)
    file = folder / TASK
    if not file.is_file():
        raise CheckpointError(f"{folder} does not say what it was trained on (there is no {TASK}): give --task.")
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        name, options = noted["task"], {**noted["options"], **options}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): give --task.") from error
    return create_task(name, **options)


def read_model(folder: Path) -> nn.Module:
    """The model that a run ended with, in evaluation mode.

    Raises `CheckpointError` for a folder that holds no finished run, and for a file that is damaged.
    """
    from anyformer.weights.checkpoint import WEIGHTS, from_pretrained

    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; give one that 'anyformer train' left.")
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} holds no finished run (there is no {WEIGHTS}); 'anyformer train --resume' finishes it."
        )
    return from_pretrained(folder)


def numbers(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The plain numbers of a measurement as rows."""
    return [(name, f"{value:.4g}") for name, value in metrics.items() if isinstance(value, int | float)]
