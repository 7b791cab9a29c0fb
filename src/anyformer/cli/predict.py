"""What a trained model says of new inputs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from anyformer.cli.output import columns, show_json
from anyformer.cli.runs import read_model, read_task
from anyformer.cli.settings import read_settings
from anyformer.core.errors import DataError

EXAMPLES = """examples:
  anyformer predict runs/photos cat.jpg dog.png
  anyformer predict runs/transformer-dates "the 3rd of May, 2021"
  ls *.jpg | anyformer predict runs/photos --json"""


@dataclass
class Options:
    """What a trained model says of new inputs: files for images, texts for language.

    Without inputs, they are read from standard input, one a line.
    """

    run: Positional[Path]
    """Folder that 'anyformer train' left."""
    inputs: Positional[tuple[str, ...]] = ()
    """Paths of images, or texts."""
    task: str = ""
    """Another task than the one that it was trained on."""
    task_set: tuple[str, ...] = ()
    """Options for the task, as option=value."""
    device: str = "cpu"
    """Where to run: cpu, cuda, ..., or auto for a GPU where there is one."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON, with all that the task knows of each answer."""


def run(options: Options) -> int:
    from anyformer.lab.train.distributed import choose_device

    inputs = list(options.inputs) or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not inputs:
        raise DataError("predict takes inputs: paths of images or texts, as arguments or one a line on standard input.")
    device = choose_device(options.device)
    model = read_model(options.run).to(device)
    task = read_task(options.run, options.task, read_settings(options.task_set))
    answers = task.predict(model, inputs)
    if options.as_json:
        show_json(answers)
    else:
        print(columns((str(given), *plain(answer)) for given, answer in zip(inputs, answers, strict=True)))
    return 0


def plain(answer: dict) -> list[str]:
    """The plain values of an answer, its input aside."""
    values = [v for name, v in answer.items() if name != "input" and isinstance(v, str | int | float)]
    return [f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
