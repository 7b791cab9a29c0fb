"""Tasks: data, loss and metric that belong together; one file per family. Readable without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyformer.core.errors import OptionError, UnknownName, suggest

if TYPE_CHECKING:
    from anyformer.tasks.task import Task


def create_task(name: str | Task, **options: Any) -> Task:
    """Make a task by its name in the index.

    Args:
        name: such as "digits", "text" or "dates"; "images:photos/" is short for `create_task("images",
            path="photos/")`.
            A task that is made already is returned as it is.
        options: arguments of the task's class.

    Raises `UnknownName` with the nearest names, `OptionError` for options that the task does not have.
    """
    from anyformer.core.build import parameters
    from anyformer.core.registry import index, resolve

    if not isinstance(name, str):
        return name
    name, _, path = name.partition(":")
    known = index()["tasks"]
    if name not in known:
        raise UnknownName(f"there is no task {name!r}; {suggest(name, known)}")
    make = resolve(known[name]["target"])
    if path:
        options["path"] = path
    accepted = {option: parameter for option, (parameter, _) in parameters(make).items()}
    for option in options:
        if option not in accepted:
            raise OptionError(f"task {name!r} has no option {option!r}; {suggest(option, accepted)}")
    for option, parameter in accepted.items():
        if parameter.default is parameter.empty and option not in options:
            raise OptionError(
                f"task {name!r} needs {option}, as in '{name}:PATH' or create_task({name!r}, {option}=...)."
            )
    return make(**options)
