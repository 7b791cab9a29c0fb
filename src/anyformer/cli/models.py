"""List models by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

from anyformer.cli.output import columns, show_json
from anyformer.core.errors import UnknownName, suggest
from anyformer.core.registry import index
from anyformer.papers import in_room

EXAMPLES = """examples:
  anyformer models
  anyformer models swin
  anyformer models --room models/vision
  anyformer models swin --source timm        names that timm gives, and what they are here"""


@dataclass
class Options:
    """List models: families with their variants, or the names that another source gives them."""

    pattern: Positional[str] = ""
    """Only names that contain this."""
    room: str = ""
    """Only families of this room, such as models/vision or models."""
    source: str = ""
    """List the names of this source (timm, transformers, official) and the variants that they mean."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    if options.source:
        return list_source(options)
    families = select_families(options.pattern, options.room)
    if options.as_json:
        show_json(families)
    else:
        print(columns((name, ", ".join(entry["variants"])) for name, entry in families.items()))
    return 0


def select_families(pattern: str, room: str) -> dict[str, dict]:
    """Families whose name, or some of whose variants, contain the pattern; with those variants only."""
    families = index()["families"]
    rooms = {f"models/{entry['room']}" for entry in families.values()} | {"models"}
    room = room.rstrip("/") or "models"
    if room not in rooms:
        raise UnknownName(f"there is no room {room!r} with models; {suggest(room, rooms)}")
    found = {}
    for name, entry in sorted(families.items()):
        variants = [v for v in entry["variants"] if pattern in v or pattern in name]
        if variants and in_room(f"models/{entry['room']}", room):
            found[name] = {**entry, "variants": variants}
    return found


def list_source(options: Options) -> int:
    """The names of one source."""
    sources = index()["names"]
    if options.source not in sources:
        raise UnknownName(f"there is no source {options.source!r}; {suggest(options.source, sources)}")
    names = {n: ours for n, ours in sources[options.source].items() if options.pattern in n}
    if options.as_json:
        show_json({name: {"family": family, "variant": variant} for name, (family, variant) in names.items()})
    else:
        print(columns((f"{options.source}:{name}", variant) for name, (_, variant) in names.items()))
    return 0
