"""From a Spec to a module: the constructor's signature is the schema."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any

from anyformer.core.errors import FitError, OptionError, suggest
from anyformer.core.registry import KINDS, part_class
from anyformer.core.spec import Spec, as_spec


def parameters(cls: type) -> dict[str, tuple[inspect.Parameter, Any]]:
    """What a part's constructor takes: name to (parameter, type).

    A constructor with `**options` hands them to that of the class that it extends, so it takes all of both; where both
    name one, its own counts.
    """
    found: dict[str, tuple[inspect.Parameter, Any]] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        hints = typing.get_type_hints(base.__init__)
        own = list(inspect.signature(base.__init__).parameters.values())[1:]
        for p in own:
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                found.setdefault(p.name, (p, hints.get(p.name, Any)))
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return found


@cache
def signature(cls: type) -> dict[str, tuple[Any, Any]]:
    """A part's options: name to (type, default); `inspect.Parameter.empty` where there is no default."""
    return {name: (hint, parameter.default) for name, (parameter, hint) in parameters(cls).items()}


def build(spec: Any, kind: str, **context: Any) -> Any:
    """Build the part that a slot of this kind asks for.

    Args:
        spec: a Spec, a part's name, or a module that is built already (returned as it is).
        kind: the slot, a key of `registry.KINDS`.
        context: what the builder supplies (`dim`, `grid`, `causal`, `layer`, ...). The part gets those that its
            constructor names and the spec leaves open.

    Raises:
        OptionError: an option is unknown, missing or of another type.
        FitError: the part is of another kind, does not serve this grid rank, or cannot be causal.
    """
    if not isinstance(spec, str | Spec | dict) and callable(spec):
        return spec
    spec = as_spec(spec, kind)
    cls = part_class(spec.name)
    check_options(spec, cls)
    if cls.kind != kind:
        raise FitError(
            f"{spec.name} is a {KINDS[cls.kind]}; this place takes a {KINDS[kind]} "
            f"('anyformer parts --kind {kind}' lists them)."
        )
    check_fit(spec.name, cls, context.get("grid"), bool(context.get("causal", False)))
    known = signature(cls)
    # A grid that nobody knows leaves the part's own default.
    given = {k: v for k, v in context.items() if k in known and not (k == "grid" and v is None)}
    arguments = given | spec.options
    missing = [k for k, (_, default) in known.items() if default is inspect.Parameter.empty and k not in arguments]
    if missing:
        raise OptionError(
            f"{spec.name} needs {', '.join(missing)}: give it as Spec({spec.name!r}, {missing[0]}=...) "
            f"({describe(known[missing[0]][0])})."
        )
    return cls(**arguments)


def check_options(spec: Spec, cls: type | None = None) -> None:
    """Raise `OptionError` for an option that the part does not have or that is of another type."""
    cls = part_class(spec.name) if cls is None else cls
    known = signature(cls)
    for option, value in spec.options.items():
        if option not in known:
            raise OptionError(f"{spec.name} has no option {option!r}; {suggest(option, known)}")
        hint = known[option][0]
        if not accepts(value, hint):
            raise OptionError(f"{spec.name}.{option} takes {describe(hint)}; given {value!r} ({type(value).__name__}).")


def check_fit(name: str, cls: Any, grid: Sequence[int | None] | None, causal: bool) -> None:
    """Raise `FitError` where a mixer does not serve this grid rank, or a part cannot be causal.

    A block that does not name `causal` among its options has nobody to hand it on to.
    """
    if causal and getattr(cls, "kind", "") == "block" and "causal" not in signature(cls):
        raise FitError(
            f"{name} has no order among its tokens and cannot be causal, so it does not fit a decoder: take a block "
            "that is told, such as prenorm."
        )
    if causal and getattr(cls, "kind", "") == "ffn" and not (cls.per_token or cls.stateful):
        raise FitError(
            f"{name} looks at a token's neighbours on both sides and cannot be causal, so it does not fit a decoder: "
            "take a channel mixer that acts on each token alone, such as mlp."
        )
    if getattr(cls, "kind", "") != "mixer":
        return
    if grid is not None and len(grid) not in cls.ranks:
        ranks = ", ".join(str(r) for r in cls.ranks)
        sequence = "; a class token makes the grid a sequence: pool the mean ('head.pool': 'mean', a stage's prefix 0)"
        hint = sequence if len(grid) == 1 else ""
        raise FitError(f"{name} serves grids of rank {ranks}; this place has a grid of rank {len(grid)}{hint}.")
    if causal and cls.causality == "never":
        raise FitError(f"{name} looks at all tokens and cannot be causal, so it does not fit a decoder.")


def accepts(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type (scalars, Literal, unions, sequences, Spec)."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(accepts(value, h) for h in inner)
    if origin is typing.Literal:
        return any(value == v and type(value) is type(v) for v in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint is Spec:
        return isinstance(value, Spec | str) or (hasattr(value, "forward") and callable(value))
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin in (tuple, list, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        if isinstance(value, str | Spec) or not isinstance(value, Sequence):
            return False
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(accepts(v, h) for v, h in zip(value, inner, strict=True))
        return not inner or all(accepts(v, inner[0]) for v in value)
    if origin is not None:
        return isinstance(value, origin)
    return not isinstance(hint, type) or isinstance(value, hint)


def describe(hint: Any) -> str:
    """An annotated type in words, for messages."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(h) for h in inner)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(v) for v in inner)
    if hint is None or hint is type(None):
        return "None"
    if hint is Spec:
        return "a Spec or a part's name"
    if origin in (tuple, list, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return f"a list of {describe(inner[0])}" if inner else "a list"
    return getattr(hint, "__name__", str(hint))
