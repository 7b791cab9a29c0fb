"""Who takes part: from what a user writes to specs that are checked, scaled and counted before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyformer.core.errors import AnyformerError, OptionError
from anyformer.core.scale import count, scale_to
from anyformer.core.spec import Spec
from anyformer.models import model_spec
from anyformer.tasks.task import Task

Models = Sequence[str | Spec] | Mapping[str, str | Spec]
"""Names, Specs, "name+slot=part" strings and paths of YAML files; a mapping gives them names of its own."""


@dataclass(frozen=True)
class Entrant:
    """One model of a comparison: how it is called, the whole Spec with the task's options, and its parameters."""

    name: str
    spec: Spec
    parameters: int


def entrants(models: Models, task: Task, size: int | None = None) -> tuple[Entrant, ...]:
    """Check every model against the task, scale it, and count it, without making a single weight.

    Args:
        models: see `Models`. "swin_micro+mixer=pooling+depths=[1, 2]" sets options of the model: `+option=value`, the
            value read as YAML, so that "vit_micro+mixer={part: bidirectional, mixer: mamba}" nests.
        task: what they are for.
        size: parameters that each is scaled to; None leaves them as they are.

    Raises:
        OptionError: no model, a name twice, an option that cannot be read or that the model does not have.
        UnknownName, FitError, SizeError, BudgetError: as `create_model` and `scale_to` do, the model named first.
    """
    given = models.items() if isinstance(models, Mapping) else [(label(m), m) for m in models]
    found: dict[str, Entrant] = {}
    for name, model in given:
        if name in found:
            raise OptionError(f"the model {name!r} is given twice: give it once, or a mapping from names to models.")
        try:
            spec = model_spec(read(model), **task.model_options())
            if size is not None:
                spec = scale_to(spec, size)
            found[name] = Entrant(name, spec, count(spec))
        except AnyformerError as error:
            raise type(error)(f"{name} on the task {task.name!r}: {error}") from error
    if not found:
        raise OptionError("a comparison takes at least one model; 'anyformer models' lists them.")
    return tuple(found.values())


def label(model: str | Spec) -> str:
    """How a model is called that was given no name: as it was written, a file by its stem, a Spec by its part."""
    if isinstance(model, Spec):
        return model.name
    return Path(model).stem if is_file(model) else model


def is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml"))


def read(model: str | Spec) -> Spec:
    """The Spec that is meant, without the task's options."""
    if isinstance(model, Spec):
        return model
    if is_file(model):
        try:
            return Spec.from_yaml(Path(model).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"the spec {model} cannot be read ({error}).") from error
    name, *settings = re.split(r"\+(?=[\w.*]+=)", model)
    return model_spec(name, **dict(setting(s) for s in settings))


def setting(text: str) -> tuple[str, Any]:
    """`"mixer=pooling"` to ("mixer", "pool"); the value is read as YAML."""
    import yaml

    option, _, value = text.partition("=")
    try:
        return option, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise OptionError(f"+{text}: the value is no YAML ({str(error).splitlines()[0]}).") from error


def parse_size(text: str | int | None) -> int | None:
    """`"100k"`, `"1.5M"`, `"100000"` or a number to a number of parameters.

    Raises `OptionError` for anything else, and for less than one.
    """
    if text is None or text == "":
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGbB]?)\s*", str(text))
    if match is None or (size := round(float(match[1]) * UNITS[match[2].lower()])) < 1:
        raise OptionError(f"a size is a number of parameters such as '100k', '1.5M' or 100000; given {text!r}.")
    return size


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
