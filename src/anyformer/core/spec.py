"""Spec: the name of a part and its options, nested. The one configuration mechanism; readable without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from anyformer.core.errors import AnyformerError, OptionError, suggest

VERSION = 1
"""Version of the written form. It rises when an old file would otherwise be read wrongly."""

_SCALARS = (str, int, float, bool, type(None))


class Spec:
    """The name of a part and some of its options; immutable, compared by value, nested to any depth.

    `Spec("window", heads=3, window=7)`. Sequences become tuples, so that a spec equals itself after a round
    trip through YAML.
    """

    __slots__ = ("name", "options")
    name: str
    options: dict[str, Any]

    def __init__(self, name: str, /, **options: Any):
        if not isinstance(name, str) or not name:
            raise OptionError(f"a Spec starts with the name of a part, as in Spec('mlp', ratio=4); given {name!r}.")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", {k: _freeze(v, f"{name}.{k}") for k, v in options.items()})

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError("a Spec does not change; use spec.replace(path, value) or spec.set(option=value)")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.name == other.name and self.options == other.options

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted((k, repr(v)) for k, v in self.options.items()))))

    def __repr__(self) -> str:
        inside = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return f"Spec({self.name!r}{inside})"

    def __getitem__(self, path: str) -> Any:
        return self.get(path)

    def __reduce__(self):
        return _restore, (self.name, self.options)

    # -- edit ---------------------------------------------------------------------------------------------

    def set(self, **options: Any) -> Spec:
        """The same spec with these options changed or added."""
        return Spec(self.name, **{**self.options, **options})

    def without(self, *names: str) -> Spec:
        """The same spec with these options left to their defaults."""
        return Spec(self.name, **{k: v for k, v in self.options.items() if k not in names})

    def get(self, path: str) -> Any:
        """The value at a path such as `"stages.2.block.mixer.heads"`. Raises `OptionError` where nothing is."""
        value: Any = self
        for step, at in _steps(path):
            value = _child(value, step, at)
        return value

    def replace(self, path: str, value: Any) -> Spec:
        """A new spec with the value at `path` replaced; `*` stands for every element of a sequence.

        A bare part name stands for a Spec of it where a Spec was: `spec.replace("stages.2.block.mixer",
        "neighborhood")` keeps the options that both parts have, such as `heads`.
        """
        return _replaced(self, [s for s, _ in _steps(path)], value, path)

    def swap(self, slot: str, value: Any, where: Callable[[str, Spec], bool] | None = None) -> Spec:
        """Replace every spec in a slot of this name (`"mixer"`, `"ffn"`, `"norm"`, ...), at any depth.

        Args:
            slot: option name whose specs are replaced.
            value: a Spec or the name of a part; options that old and new part share are kept unless given.
            where: optional filter on (path, old spec).
        """
        return _swapped(self, slot, value, where, "")

    def walk(self, path: str = "") -> Iterator[tuple[str, Spec]]:
        """This spec and every spec inside it, as (path, spec), outermost first."""
        yield path, self
        for key, value in self.options.items():
            yield from _walk(value, f"{path}.{key}" if path else key)

    # -- write and read -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists: `{"part": name, option: value, ...}`."""
        return {"part": self.name, **{k: _plain(v) for k, v in self.options.items()}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Spec:
        """The inverse of `to_dict`."""
        if not isinstance(data, Mapping) or "part" not in data:
            raise OptionError(f"a written spec is a mapping with the key 'part'; given {_short(data)}.")
        return Spec(data["part"], **{k: _parse(v) for k, v in data.items() if k != "part"})

    def to_yaml(self) -> str:
        """YAML text with the version of the form first."""
        import yaml

        return yaml.safe_dump({"anyformer": VERSION, "spec": self.to_dict()}, sort_keys=False, width=100)

    @staticmethod
    def from_yaml(text: str) -> Spec:
        """Read `to_yaml`'s text. Raises `OptionError` on anything else, or on a later version."""
        import yaml

        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise OptionError(f"this is not YAML: {str(error).splitlines()[0]}.") from error
        if not isinstance(data, Mapping) or "spec" not in data:
            raise OptionError(f"a spec file has the keys 'anyformer' (version) and 'spec'; given {_short(data)}.")
        if data.get("anyformer", 0) > VERSION:
            raise OptionError(
                f"this spec was written in version {data['anyformer']} of the form and this anyformer reads up to "
                f"{VERSION}: upgrade anyformer."
            )
        return Spec.from_dict(data["spec"])


def as_spec(value: Any, slot: str = "part") -> Spec:
    """A Spec from a Spec, a bare part name, or a written mapping."""
    if isinstance(value, Spec):
        return value
    if isinstance(value, str):
        return Spec(value)
    if isinstance(value, Mapping):
        return Spec.from_dict(value)
    raise OptionError(f"{slot} takes a Spec or the name of a part; given {_short(value)}.")


def carry(old: Spec, new: Spec) -> Spec:
    """`new` with those of `old`'s options that the new part has too and that are not given (`heads`, `ratio`).

    A part with several kinds of heads takes over the next number of them that its kinds divide.
    """
    from anyformer.core.registry import part_entry

    if old.name == new.name:
        return Spec(new.name, **{**old.options, **new.options})
    entry = part_entry(new.name)
    known, kinds = entry["options"], entry.get("head_kinds", 1)
    kept = {
        k: v for k, v in old.options.items() if k in known and k not in new.options and _similar(v, known[k]["type"])
    }
    if "heads" in kept:
        kept["heads"] += -kept["heads"] % kinds
    return Spec(new.name, **{**kept, **new.options})


def _similar(value: Any, annotation: str) -> bool:
    """Whether a value carried from another part can be meant by an option annotated so."""
    if isinstance(value, Spec):
        return False
    wanted = {bool: "bool", int: "int", float: "float", str: "str"}.get(type(value))
    return wanted is not None and wanted in annotation


def _restore(name: str, options: dict[str, Any]) -> Spec:
    return Spec(name, **options)


def _freeze(value: Any, at: str) -> Any:
    if isinstance(value, (Spec, *_SCALARS)):
        return value
    if isinstance(value, Mapping):
        return Spec.from_dict(value) if "part" in value else {str(k): _freeze(v, at) for k, v in value.items()}
    if isinstance(value, Sequence):
        return tuple(_freeze(v, at) for v in value)
    raise OptionError(f"{at} is {_short(value)}; a Spec holds numbers, strings, booleans, lists and Specs only.")


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _parse(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Spec.from_dict(value) if "part" in value else {k: _parse(v) for k, v in value.items()}
    return tuple(_parse(v) for v in value) if isinstance(value, list | tuple) else value


def _walk(value: Any, path: str) -> Iterator[tuple[str, Spec]]:
    if isinstance(value, Spec):
        yield from value.walk(path)
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _walk(inner, f"{path}.{i}")


def _steps(path: str) -> list[tuple[str, str]]:
    parts = [p for p in path.split(".") if p]
    if not parts:
        raise OptionError("a path names at least one option, as in 'stages.2.block.mixer'; given an empty one.")
    return [(p, ".".join(parts[:i]) or "the top") for i, p in enumerate(parts)]


def _child(value: Any, step: str, at: str) -> Any:
    if isinstance(value, Spec):
        if step in value.options:
            return value.options[step]
        raise OptionError(f"{value.name} (at {at}) sets no {step!r}; {suggest(step, value.options)}")
    if isinstance(value, tuple):
        if step.isdigit() and int(step) < len(value):
            return value[int(step)]
        raise OptionError(f"{at} has {len(value)} entries, 0 to {len(value) - 1}; given {step!r}.")
    raise OptionError(f"{at} is {_short(value)}, which has nothing inside; given {step!r}.")


def _replaced(node: Any, steps: list[str], value: Any, path: str) -> Any:
    if not steps:
        if isinstance(node, Spec) and isinstance(value, str | Spec):
            return carry(node, as_spec(value))
        return _freeze(value, path)
    step, rest = steps[0], steps[1:]
    at = ".".join(path.split(".")[: -len(steps)]) or "the top"
    if isinstance(node, tuple):
        if step == "*":
            return tuple(_replaced(n, rest, value, path) for n in node)
        _child(node, step, at)
        return tuple(_replaced(n, rest, value, path) if i == int(step) else n for i, n in enumerate(node))
    if isinstance(node, Spec):
        if step not in node.options:
            if rest:
                _child(node, step, at)
            from anyformer.core.registry import part_entry

            known = part_entry(node.name)["options"]
            if step not in known:
                raise OptionError(f"{node.name} has no option {step!r} (path {path!r}); {suggest(step, known)}")
            return node.set(**{step: as_spec(value) if "Spec" in known[step]["type"] and value is not None else value})
        return node.set(**{step: _replaced(node.options[step], rest, value, path)})
    raise OptionError(f"path {path!r} goes on at {step!r}, but there is {_short(node)} there.")


def _swapped(node: Any, slot: str, value: Any, where: Any, path: str) -> Any:
    if isinstance(node, tuple):
        return tuple(_swapped(n, slot, value, where, f"{path}.{i}") for i, n in enumerate(node))
    if not isinstance(node, Spec):
        return node
    options = {}
    for key, old in node.options.items():
        at = f"{path}.{key}" if path else key
        options[key] = _put(old, value, where, at) if key == slot else _swapped(old, slot, value, where, at)
    if slot not in options:
        default = _default(node.name, slot)
        if default is not None:
            options[slot] = _put(default, value, where, f"{path}.{slot}" if path else slot)
    return Spec(node.name, **options)


def _default(part: str, slot: str) -> Spec | None:
    """The Spec that a part puts into a slot when its spec leaves it open, if it is one part's name."""
    from anyformer.core.registry import index

    option = index()["parts"].get(part, {}).get("options", {}).get(slot, {})
    text = option.get("default", "")
    return Spec(text[6:-2]) if text.startswith("Spec('") and text.endswith("')") else None


def _put(old: Any, value: Any, where: Any, path: str) -> Any:
    if isinstance(old, tuple):
        return tuple(_put(o, value, where, f"{path}.{i}") for i, o in enumerate(old))
    if not isinstance(old, Spec) or (where is not None and not where(path, old)):
        return old
    return None if value is None else carry(old, as_spec(value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["AnyformerError", "Spec", "as_spec", "carry"]
