"""Measure a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from anyformer.cli.output import columns, show_json
from anyformer.cli.runs import numbers, read_model, read_task
from anyformer.cli.settings import read_settings

EXAMPLES = """examples:
  anyformer evaluate runs/vit_micro-digits
  anyformer evaluate runs/photos --split valid --json
  anyformer evaluate runs/photos --task images:other_photos/ --task-set image_size=64"""


@dataclass
class Options:
    """Measure a trained model on held-out data."""

    run: Positional[Path]
    """Folder that 'anyformer train' left."""
    split: str = "test"
    """Which part of the data: train, valid or test."""
    task: str = ""
    """Another task than the one that it was trained on."""
    task_set: tuple[str, ...] = ()
    """Options for the task, as option=value."""
    device: str = "cpu"
    """Where to run: cpu, cuda, ..., or auto for a GPU where there is one."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON, with results per class where the task has them."""


def run(options: Options) -> int:
    from anyformer.lab.train.distributed import choose_device

    device = choose_device(options.device)
    model = read_model(options.run).to(device)
    task = read_task(options.run, options.task, read_settings(options.task_set))
    metrics = task.evaluate(model, options.split)
    if options.as_json:
        show_json({"task": task.name, "split": options.split, "samples": task.size(options.split), **metrics})
    else:
        print(columns([*numbers(metrics), ("samples", f"{task.size(options.split):,}")]))
    return 0
