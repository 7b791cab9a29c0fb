"""Adapting a trained model with few parameters: put something small in, train it alone, keep it alone, take it out.

    adapt(model, "lora", rank=8)                # in place; everything else but the head is frozen
    save_adaptation(model, "digits.safetensors")
    merge(model) or remove(model)               # into the weights, or as it was

What is put in is a module or a parameter of its own inside the modules that it adapts. A model remembers its
adaptations (`model.adaptations`, name to Spec): `save_pretrained` writes them with its spec, and `from_pretrained`
makes them again before it reads the weights.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from anyformer.core.build import check_options
from anyformer.core.errors import CheckpointError, FitError, OptionError, UnknownName, nearest, suggest
from anyformer.core.files import write_whole
from anyformer.core.registry import index, resolve
from anyformer.core.spec import Spec
from anyformer.weights.checkpoint import read_safetensors
from anyformer.weights.load import fill_state
from anyformer.weights.mapping import Table

HEAD = "head"
"""Prefix of the parameters that train beside an adaptation, as the task is new."""


class Adaptation(ABC):
    """A way to adapt a model; its constructor's arguments are its options, and `insert` keeps nothing in it.

    Class attributes: `name` in the registry, and `papers`.
    """

    name: ClassVar[str]
    papers: ClassVar[tuple[str, ...]] = ()

    def names(self, source: str, name: str) -> Table | None:
        """How a source names the parameters that stand under `name` here, for `load_reference`; None: not at all."""
        return None

    @abstractmethod
    def insert(self, model: nn.Module, name: str) -> list[nn.Parameter]:
        """Put it into a model under a name; those of its parameters that train now."""

    @abstractmethod
    def withdraw(self, model: nn.Module, name: str) -> None:
        """Take it out: names and values are as before `insert`."""

    def merge(self, model: nn.Module, name: str) -> None:
        """Take it out and leave its effect in the weights."""
        raise FitError(f"{self.name} is no change of weights, so it cannot be merged into them; LoRA can.")


def adapt(model: nn.Module, method: str, *, name: str | None = None, head: str = HEAD, **options: Any) -> nn.Module:
    """Put an adaptation into a model, in place, and freeze all but it and the head.

    "adapter" and "lora" start without effect: right after it the outputs are what they were, bit for bit (with
    gradients on, torch may choose another attention kernel for a bias that is frozen now). Adaptations under several
    names add up, and all go on training.

    Args:
        model: any module; patterns in the options name the places in it.
        method: "adapter", "lora", "visual_prompt", "coda_prompt".
        name: under which it stands in the state; the method's own unless given.
        head: prefix of parameters that go on training, such as "head"; "" for none.
        options: of the method, which its class documents.

    Raises:
        UnknownName: no such method.
        OptionError: an option that it does not have; a name that is taken; a pattern that fits nothing.
    """
    spec = Spec(method, **options)
    adaptation = make(spec)
    name = name or method
    held = adaptations(model)
    if name in held or any(part == name for path, _ in model.named_modules() for part in path.split(".")):
        raise OptionError(
            f"this model is adapted under the name {name!r} already, or has a module of that name: give another name=, "
            "or remove(model) first."
        )
    if not held:
        model.trained_before = tuple(n for n, p in model.named_parameters() if p.requires_grad)
    inserted = adaptation.insert(model, name)
    new = {id(p) for p in inserted}
    new |= {id(p) for earlier in held for p in parameters_of(model, earlier).values() if p.requires_grad}
    trained_before = getattr(model, "trained_before", ())
    for path, parameter in model.named_parameters():
        inside = bool(head) and (path == head or path.startswith(head + "."))
        parameter.requires_grad_(id(parameter) in new or (inside and path in trained_before))
    model.adaptations = {**held, name: spec}
    return model


def make(spec: Spec) -> Adaptation:
    """The adaptation that a Spec names, with its options checked."""
    here = __name__.rpartition(".")[0]
    found = {n: e["target"] for n, e in index()["methods"].items() if e["target"].startswith(f"{here}.")}
    known = sorted(n for n, target in found.items() if not target.startswith(f"{__name__}:"))
    if spec.name not in known:
        raise UnknownName(f"there is no adaptation {spec.name!r}; {suggest(spec.name, known)}")
    cls = resolve(found[spec.name])
    check_options(spec, cls)
    return cls(**spec.options)


def adaptations(model: nn.Module) -> dict[str, Spec]:
    """What a model was adapted with, by name."""
    return getattr(model, "adaptations", {})


def remove(model: nn.Module, name: str | None = None) -> nn.Module:
    """Take one adaptation out, or the only one, in place: names and weights are as before it, the head as trained.

    With the last one, what trained before trains again. Raises `OptionError` for a name that is not there.
    """
    return _take_out(model, name, lambda adaptation, chosen: adaptation.withdraw(model, chosen))


def merge(model: nn.Module, name: str | None = None) -> nn.Module:
    """Take one adaptation out, or the only one, and leave its effect in the weights, in place.

    Raises `FitError` for one that is no change of weights.
    """
    return _take_out(model, name, lambda adaptation, chosen: adaptation.merge(model, chosen))


def _take_out(model: nn.Module, name: str | None, how: Callable[[Adaptation, str], None]) -> nn.Module:
    held = adaptations(model)
    if name is None and len(held) == 1:
        (name,) = held
    if name not in held:
        raise OptionError(f"name= is one of this model's adaptations; {suggest(str(name), held)}")
    how(make(held[name]), name)
    model.adaptations = {n: s for n, s in held.items() if n != name}
    if not model.adaptations:
        trained_before = getattr(model, "trained_before", ())
        for path, parameter in model.named_parameters():
            parameter.requires_grad_(path in trained_before)
    return model


def parameters_of(model: nn.Module, name: str) -> dict[str, Tensor]:
    """An adaptation's own parameters, by their names in the model."""
    return {path: p for path, p in model.named_parameters() if name in path.split(".")}


def places(model: nn.Module, pattern: str, fits: Callable[[nn.Module], bool], what: str) -> list[tuple[str, nn.Module]]:
    """The modules whose path matches and that `fits` accepts. Raises `OptionError`, naming candidates, for none."""
    known = {path: module for path, module in model.named_modules() if path and fits(module)}
    found = [(path, module) for path, module in known.items() if fnmatchcase(path, pattern)]
    if not found:
        close = nearest(pattern.replace("*", ""), known) or list(known)[:6]
        listed = ", ".join(close) if close else "there is none in this model"
        raise OptionError(f"no {what} of {type(model).__name__} matches the pattern {pattern!r}; candidates: {listed}.")
    return found


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The adaptations' parameters and what trains beside them (the head), by name."""
    own = {path for name in adaptations(model) for path in parameters_of(model, name)}
    return {path: p.detach() for path, p in model.named_parameters() if p.requires_grad or path in own}


def save_adaptation(model: nn.Module, path: str | Path) -> Path:
    """Write the adaptations and what trains with them, alone, to a safetensors file. The model's weights stay out."""
    from safetensors.torch import save_file

    if not adaptations(model):
        raise CheckpointError("this model has no adaptation to save: adapt(model, ...) puts one in.")
    state = {name: tensor.cpu().contiguous().clone() for name, tensor in trained_state(model).items()}
    note = json.dumps({name: spec.to_dict() for name, spec in adaptations(model).items()})
    write_whole(Path(path), lambda partial: save_file(state, partial, metadata={"adaptations": note}))
    return Path(path)


def load_adaptation(model: nn.Module, path: str | Path) -> nn.Module:
    """Adapt a model of the same shape as `save_adaptation`'s was, in place, and fill in what was trained.

    Raises `CheckpointError` for another file, or one of another model.
    """
    state, metadata = read_safetensors(Path(path))
    if "adaptations" not in metadata:
        raise CheckpointError(f"{path} was not written by save_adaptation.")
    for name, spec in json.loads(metadata["adaptations"]).items():
        spec = Spec.from_dict(spec)
        adapt(model, spec.name, name=name, **spec.options)
    report = fill_state(model, state, [], partial=True, what="adaptation")
    own = {path for name in adaptations(model) for path in parameters_of(model, name)}
    if report.unexpected or report.reshaped or own - set(report.loaded):
        raise CheckpointError(f"{path} is the adaptation of another model: {report}.")
    return model


def unhook(module: nn.Module, kind: type, name: str) -> None:
    """Take a module's forward hooks of this kind and name away."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [k for k, hook in hooks.items() if isinstance(hook, kind) and hook.name == name]:
            del hooks[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)


METHODS = {"adapt": adapt}
