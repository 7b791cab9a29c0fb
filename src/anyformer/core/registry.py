"""The lazy index: names of parts, models, tasks, claims and methods, to where they live. Reading it needs no torch.

`index.json` beside this file is derived from the tree by `python -m anyformer.core.index` and held to it by a test;
nothing registers itself by being imported.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from anyformer.core.errors import UnknownName, suggest

INDEX = Path(__file__).with_name("index.json")

KINDS = {
    "mixer": "token mixer",
    "ffn": "channel mixer",
    "embed": "embedding",
    "position": "absolute position",
    "rotation": "rotation of queries and keys",
    "bias": "attention bias",
    "structure": "encoding of a graph's structure",
    "scoring": "attention scoring",
    "features": "feature map of linear attention",
    "gate": "gate of attention heads",
    "cache": "cache of keys and values",
    "cross": "cross-attention",
    "norm": "norm",
    "act": "activation",
    "experts": "mixture of experts told by a condition",
    "residual": "residual",
    "downsample": "downsampling",
    "upsample": "upsampling",
    "skip": "skip connection",
    "pool": "pooling",
    "saturation": "saturation of kernels",
    "head": "head",
    "decode_head": "decode head",
    "block": "block",
    "stage": "stage",
    "model": "model",
}
"""Kinds of part: the slot it fits, and its name in messages."""


@cache
def index() -> dict[str, Any]:
    """The whole index: `parts`, `families`, `variants`, `names` (per source), `tasks`, `claims`, `methods`."""
    return json.loads(INDEX.read_text())


def part_entry(name: str) -> dict[str, Any]:
    """What the index says of a part: `kind`, `target` ("module:Class"), `papers`, `options`, `doc`.

    Raises `UnknownName` with the nearest names.
    """
    parts = index()["parts"]
    if name not in parts:
        raise UnknownName(f"there is no part {name!r}; {suggest(name, parts)} ('anyformer parts' lists them.)")
    return parts[name]


def resolve(target: str) -> Any:
    """Import "module:attribute"."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def part_class(name: str) -> Any:
    """The class of a part, imported on demand."""
    return resolve(part_entry(name)["target"])


def parts(kind: str | None = None) -> dict[str, dict[str, Any]]:
    """All parts, or those of one kind (a key of `KINDS`), by name."""
    if kind is not None and kind not in KINDS:
        raise UnknownName(f"there is no kind of part {kind!r}; {suggest(kind, KINDS)}")
    return {n: e for n, e in sorted(index()["parts"].items()) if kind is None or e["kind"] == kind}
