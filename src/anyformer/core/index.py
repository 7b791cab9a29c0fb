"""Derive `index.json` from the tree: `python -m anyformer.core.index` writes it, a test holds it to the tree."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

ROOMS = ("layers", "blocks", "models")
TABLES = {"tasks": "TASKS", "methods": "METHODS"}


def modules(room: str) -> list[Any]:
    """Every module of a room, imported, in the order of their names."""
    package = importlib.import_module(f"anyformer.{room}")
    names = sorted(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))
    return [importlib.import_module(name) for name in names if not name.rsplit(".", 1)[-1].startswith("_")]


def first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").strip().split("\n")[0]


def annotation(hint: Any) -> str:
    return hint if isinstance(hint, str) else getattr(hint, "__name__", str(hint))


def find_parts() -> dict[str, Any]:
    """Every class with a name of its own in the rooms of parts, blocks and models."""
    from anyformer.core.build import parameters
    from anyformer.core.part import Part

    found: dict[str, Any] = {}
    for room in ROOMS:
        for module in modules(room):
            for cls in vars(module).values():
                if not (inspect.isclass(cls) and issubclass(cls, Part) and cls.__module__ == module.__name__):
                    continue
                if not cls.__dict__.get("name"):
                    continue
                target = f"{cls.__module__}:{cls.__name__}"
                if cls.name in found:
                    raise ValueError(f"two parts are named {cls.name!r}: {found[cls.name]['target']} and {target}")
                options = {
                    n: {"type": annotation(p.annotation)}
                    | ({} if p.default is inspect.Parameter.empty else {"default": repr(p.default)})
                    for n, (p, _) in parameters(cls).items()
                }
                found[cls.name] = {
                    "kind": cls.kind,
                    "target": target,
                    "papers": list(cls.papers),
                    "options": options,
                    "doc": first_line(cls),
                }
                if cls.kind == "mixer":
                    found[cls.name] |= {"ranks": list(cls.ranks), "causality": cls.causality}
                    if cls.head_kinds > 1:
                        found[cls.name]["head_kinds"] = cls.head_kinds
    return found


def find_families() -> tuple[dict[str, Any], dict[str, str]]:
    """Families (modules of `models/` with a table `VARIANTS`) and the family of each variant."""
    families: dict[str, Any] = {}
    variants: dict[str, str] = {}
    for module in modules("models"):
        table = getattr(module, "VARIANTS", None)
        if table is None:
            continue
        family = module.__name__.rsplit(".", 1)[-1]
        families[family] = {
            "module": module.__name__,
            "room": module.__name__.split(".", 2)[2].rsplit(".", 1)[0].replace(".", "/"),
            "papers": list(getattr(module, "PAPERS", (family,))),
            "variants": list(table),
            "doc": first_line(module),
        }
        for name in table:
            if name in variants:
                raise ValueError(f"variant {name!r} stands in two families: {variants[name]} and {family}")
            variants[name] = family
    return families, variants


def find_names() -> dict[str, dict[str, list[str]]]:
    """Per source (timm, transformers, official): name there to [family, variant]."""
    names: dict[str, dict[str, list[str]]] = {}
    for module in modules("weights"):
        family = module.__name__.rsplit(".", 1)[-1]
        for source, table in getattr(module, "NAMES", {}).items():
            for theirs, ours in table.items():
                names.setdefault(source, {})[theirs] = [family, ours if isinstance(ours, str) else ours[0]]
    return {source: dict(sorted(table.items())) for source, table in sorted(names.items())}


def find_tables() -> dict[str, dict[str, Any]]:
    """Tasks and methods: the table that each of their modules declares, name to object."""
    found: dict[str, dict[str, Any]] = {}
    for room, table in TABLES.items():
        found[room] = {}
        for module in modules(room):
            for name, thing in getattr(module, table, {}).items():
                found[room][name] = {
                    "target": f"{module.__name__}:{getattr(thing, '__name__', name)}",
                    "papers": list(getattr(thing, "papers", ())),
                    "doc": first_line(thing),
                }
    return found


def find_claims() -> dict[str, str]:
    """Claims: one module per paper, named by its slug."""
    claims = importlib.import_module("anyformer.claims")
    names = sorted(m.name for m in pkgutil.iter_modules(claims.__path__) if not m.name.startswith("_"))
    return {name: f"anyformer.claims.{name}" for name in names}


def derive() -> dict[str, Any]:
    """The index as the tree gives it."""
    families, variants = find_families()
    return {
        "parts": dict(sorted(find_parts().items())),
        "families": families,
        "variants": variants,
        "names": find_names(),
        **find_tables(),
        "claims": find_claims(),
    }


def main() -> int:
    """Write the index."""
    from anyformer.core.registry import INDEX

    Path(INDEX).write_text(json.dumps(derive(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
