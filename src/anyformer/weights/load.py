"""Loading the authors' weights: strict, with every mismatch listed by name and shape."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anyformer.core.errors import CheckpointError, suggest
from anyformer.core.registry import index, resolve
from anyformer.weights.mapping import Table, translate


@dataclass(frozen=True)
class Report:
    """What a load did: entries `loaded`, ours that nothing filled, theirs that nothing took, and shapes that differ."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} entries loaded"]
        for what in ("missing", "unexpected", "reshaped"):
            names = getattr(self, what)
            if names:
                lines.append(f"{len(names)} {what}: {'; '.join(names[:8])}{'; ...' if len(names) > 8 else ''}")
        return "\n".join(lines)


def sources(family: str) -> dict[str, Table | Callable[[nn.Module], Table]]:
    """The tables of a family by source (timm, transformers, official).

    Where a name stands for different things in different variants, there is a function from the model to its table.
    """
    entry = index()["families"][family]
    module = importlib.import_module(entry["module"].replace("anyformer.models", "anyformer.weights", 1))
    return module.SOURCES


def load_reference(model: nn.Module, state_dict: Mapping[str, Tensor], source: str, *, partial: bool = False) -> Report:
    """Fill a model from a state under another codebase's names.

    Args:
        model: from `create_model`; its `family` says which table holds.
        state_dict: the foreign state.
        source: whose names they are: "timm", "transformers", "official", or "anyformer".
        partial: load what fits and report the rest, instead of raising.

    Raises:
        CheckpointError: an entry is missing, left over, or of another shape (unless `partial`).
    """
    family = getattr(model, "family", None)
    if source == "anyformer":
        ours, left = dict(state_dict), []
    else:
        if family is None:
            raise CheckpointError(
                "this model is of no named family, so no table says how others name its parameters: "
                "build it with create_model(name), or pass source='anyformer'."
            )
        tables = sources(family)
        if source not in tables:
            raise CheckpointError(f"{family} has no names of {source!r}; {suggest(source, [*tables, 'anyformer'])}")
        names = tables[source]
        names = names if isinstance(names, Table) else names(model)
        ours, left = translate(with_adaptations(model, names, source), state_dict)
    return fill_state(
        model, ours, left, partial=partial, what=f"{source} weights for {getattr(model, 'variant', family)}"
    )


def with_adaptations(model: nn.Module, names: Table, source: str) -> Table:
    """A family's table, and before it those of what the model was adapted with."""
    for name, spec in getattr(model, "adaptations", {}).items():
        own = resolve(index()["methods"][spec.name]["target"])(**spec.options).names(source, name)
        if own is not None:
            names = Table(own.rules, own.prefixes, own.ignore, parent=names)
    return names


def fill_state(model: nn.Module, state: Mapping[str, Tensor], left: list[str], *, partial: bool, what: str) -> Report:
    """Copy a state under our names into a model; `left` are names that were not understood."""
    wanted = model.state_dict()
    tied = getattr(model, "tied", {})
    state = {tied.get(name, name): tensor for name, tensor in state.items()}
    unexpected = left + [name for name in state if name not in wanted]
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    reshaped, fitting = [], {}
    for name, tensor in state.items():
        if name not in wanted:
            continue
        target = wanted[name]
        if tensor.shape != target.shape and _bare(tensor.shape) == _bare(target.shape):
            tensor = tensor.reshape(target.shape)
        if tensor.shape == target.shape:
            fitting[name] = tensor
        else:
            reshaped.append(f"{name}: given {list(tensor.shape)}, the model has {list(target.shape)}")
    report = Report(sorted(fitting), missing, unexpected, reshaped)
    if not report.complete and not partial:
        raise CheckpointError(f"these are not the {what}: {report}. To load what fits, pass partial=True.")
    with torch.no_grad():
        for name, tensor in fitting.items():
            wanted[name].copy_(tensor)
    return report


def _bare(shape: torch.Size) -> list[int]:
    return [n for n in shape if n != 1]
