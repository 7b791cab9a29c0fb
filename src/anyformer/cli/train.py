"""Train a model."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from anyformer.cli.output import columns, show_json
from anyformer.cli.runs import numbers, write_task
from anyformer.cli.settings import read_settings, use_threads
from anyformer.core.errors import DataError, OptionError
from anyformer.lab.train.config import TrainConfig

if TYPE_CHECKING:
    from torch import nn

    from anyformer.tasks.task import Task

EXAMPLES = """examples:
  anyformer train --task dates
  anyformer train vit_micro --task digits --budget 30s
  anyformer train swin_micro --task images:photos/ --task-set image_size=64 --budget 20epochs --out runs/photos
  anyformer train swin_micro --task images:photos/ --out runs/photos --budget 20epochs --resume
  anyformer train my_model.yaml --task digits --set drop_path=0.1 --ema 0.99
  torchrun --nproc-per-node 2 -m anyformer train vit_micro --task digits"""


@dataclass
class Options:
    """Train one model on one task, within a budget.

    The folder gets the log, checkpoints, and at the end the weights, the spec and the result; 'anyformer evaluate'
    and 'anyformer predict' read it.
    """

    model: Positional[str] = ""
    """Name of a model, or a YAML file with a spec. Default: the one that the task suggests."""
    task: str = "digits"
    """Name of a task, with a path where it takes one, as in images:photos/."""
    out: Path | None = None
    """Folder for the run. Default: runs/MODEL-TASK."""
    resume: bool = False
    """Go on with the run in that folder."""
    set: tuple[str, ...] = ()
    """Options for the model, as option=value."""
    task_set: tuple[str, ...] = ()
    """Options for the task, as option=value."""
    threads: int = 0
    """Threads on the CPU; 0 leaves torch's choice."""
    config: OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    from anyformer.lab.train import Diverged, train
    from anyformer.tasks import create_task

    use_threads(options.threads)
    task_options = read_settings(options.task_set)
    task = create_task(options.task, **task_options)
    chosen = options.model or task.default_model
    if not chosen:
        raise OptionError(
            f"the task {task.name!r} suggests no model: name one, as in 'anyformer train MODEL --task ...'."
        )
    model = read_spec(chosen, read_settings(options.set))
    out = options.out or Path("runs") / f"{Path(chosen.replace(':', '_')).stem}-{task.name}"
    leads = os.environ.get("RANK", "0") == "0"  # one of torchrun's processes speaks for all
    if leads and not (out / "task.json").exists():
        write_task(out, options.task, task_options)
    try:
        result = train(model, task, options.config, out=out, resume=options.resume)
    except Diverged as error:  # nothing was asked for wrongly: the work failed
        print(f"anyformer: {error}", file=sys.stderr)
        return 1
    if not leads:
        return 0
    baseline = task.baseline("valid")
    drawn = draw(task, result.model, out)
    if options.as_json:
        stated = None if baseline is None else dataclasses.asdict(baseline)
        show_json({**result.to_dict(), "model": chosen, "baseline": stated, "pictures": drawn, "out": str(out)})
    else:
        rows = [
            ("model", chosen),
            *numbers(result.metrics),
            *([] if baseline is None else [("baseline", f"{baseline.value:.4g} {task.metric} ({baseline.what})")]),
            ("parameters", f"{result.parameters:,}"),
            ("steps", f"{result.steps:,}"),
            ("seconds", f"{result.seconds:.1f}"),
            ("folder", str(out)),
        ]
        print(columns(rows))
    return 0


def draw(task: Task, model: nn.Module, out: Path) -> list[str]:
    """Write the task's pictures of results into the folder's `pictures/`; gives their captions."""
    from anyformer.core.files import write_whole

    found = task.pictures(model)
    for i, picture in enumerate(found):
        (out / "pictures").mkdir(exist_ok=True)
        write_whole(out / "pictures" / f"{i}.png", lambda path, made=picture: path.write_bytes(made.png()))
    return [picture.caption for picture in found]


def read_spec(model: str, settings: dict[str, Any]) -> Any:
    """A model's name, or a Spec where it comes from a file or has options set."""
    from anyformer.core.spec import Spec
    from anyformer.models.factory import model_spec

    name: str | Spec = model
    if model.endswith((".yaml", ".yml")):
        try:
            name = Spec.from_yaml(Path(model).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"the spec {model} cannot be read: {error.strerror}.") from error
    return model_spec(name, **settings) if settings or not isinstance(name, str) else name
