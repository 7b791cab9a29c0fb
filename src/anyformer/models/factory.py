"""`create_model`: from a name, ours or another codebase's, or a Spec, to a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from anyformer.core.errors import OptionError, UnknownName, nearest, suggest
from anyformer.core.registry import index, part_entry
from anyformer.core.spec import Spec

if TYPE_CHECKING:
    from anyformer.blocks.model import Model

SLOTS = ("mixer", "ffn", "norm", "residual", "act", "distance", "rotation", "scoring")
"""Options of `create_model` that swap a part everywhere in a model."""


def create_model(name: str | Spec, **options: Any) -> Model:
    """Build a model, with random weights.

    Args:
        name: a variant ("swin_tiny"), another codebase's name ("timm:swin_tiny_patch4_window7_224",
            "transformers:openai-community/gpt2", "official:cct_7_3x1_32"), or a Spec.
        options: options of the model ("num_classes", "image_size", "in_channels", "drop_path", ...), and parts to
            swap everywhere ("mixer", "ffn", "norm", ...).

    Raises:
        UnknownName: no such model; the nearest names are given.
        OptionError, FitError, SizeError: an option, part or size that does not fit.

    >>> from anyformer import create_model
    >>> model = create_model("swin_micro", num_classes=10, in_channels=1, mixer="pooling")
    """
    from anyformer.core.build import build
    from anyformer.core.memory import reuse_freed_memory

    reuse_freed_memory()
    spec, family, variant = find(name)
    spec = with_options(spec, options)
    model = build(spec, "model")
    model.built_from, model.family, model.variant = spec, family, variant
    return model


def model_spec(name: str | Spec, **options: Any) -> Spec:
    """The Spec that `create_model` would build."""
    return with_options(find(name)[0], options)


def find(name: str | Spec) -> tuple[Spec, str | None, str | None]:
    """The Spec of a name, its family and its variant."""
    if isinstance(name, Spec):
        return name, None, None
    given: dict[str, Any] = {}
    variant = name
    if ":" in name:
        family, variant, given = foreign(name)
    else:
        variants = index()["variants"]
        if name not in variants:
            raise UnknownName(f"there is no model {name!r}; {_suggest_model(name)} ('anyformer models' lists them.)")
        family = variants[name]
    module = importlib.import_module(index()["families"][family]["module"])
    spec = module.VARIANTS[variant]
    return with_options(spec, given), family, variant


def foreign(name: str) -> tuple[str, str, dict[str, Any]]:
    """Family, variant and options of a name such as "timm:deit_tiny_patch16_224"."""
    source, _, theirs = name.partition(":")
    names = index()["names"]
    if source not in names:
        raise UnknownName(f"there is no source {source!r} of model names; {suggest(source, names)}")
    theirs = theirs.removeprefix("timm/")
    if theirs not in names[source] and source == "timm":
        theirs = theirs.split(".", 1)[0]
    if theirs not in names[source]:
        raise UnknownName(f"no model of ours has the {source} name {theirs!r}; {suggest(theirs, names[source])}")
    family, variant = names[source][theirs]
    module = importlib.import_module(
        index()["families"][family]["module"].replace("anyformer.models", "anyformer.weights", 1)
    )
    entry = module.NAMES[source][theirs]
    return family, variant, {} if isinstance(entry, str) else dict(entry[1])


def with_options(spec: Spec, options: dict[str, Any]) -> Spec:
    """A model's spec with options set and parts swapped."""
    for key, value in options.items():
        known = part_entry(spec.name)["options"]
        if key in SLOTS:
            changed = spec.swap(key, value)
            if changed == spec and not _has(spec, key):
                raise OptionError(f"{spec.name} has no {key} to swap; {suggest(key, _slots(spec))}")
            spec = changed
        elif "." in key:
            spec = spec.replace(key, value)
        elif key in known:
            spec = spec.set(**{key: value})
        else:
            raise OptionError(
                f"{spec.name} has no option {key!r}; {suggest(key, {*known, *_slots(spec)})} "
                "Options deeper inside are changed by path, as in **{'stages.0.block.mixer.window': 4}."
            )
    return spec


def _slots(spec: Spec) -> list[str]:
    return [slot for slot in SLOTS if _has(spec, slot)]


def _has(spec: Spec, slot: str) -> bool:
    return any(slot in part_entry(inner.name)["options"] for _, inner in spec.walk() if inner.name in index()["parts"])


def _suggest_model(name: str) -> str:
    close = nearest(name, index()["variants"])
    names = index()["names"]
    for source in sorted(names, key=lambda s: s != "timm"):
        if name in names[source]:
            return f"{source} has a model of that name: write '{source}:{name}'."
    return f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "no name is near it."
