"""List parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

from anyformer.cli.output import columns, show_json
from anyformer.core import registry

EXAMPLES = """examples:
  anyformer parts
  anyformer parts --kind mixer               token mixers
  anyformer parts window --json"""


@dataclass
class Options:
    """List the parts that models are made of: name, kind, and what they do."""

    pattern: Positional[str] = ""
    """Only parts whose name or description contains this."""
    kind: str = ""
    """Only parts of this kind, such as mixer, ffn, norm, position, embed, block or model."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    needle = options.pattern.lower()
    found = {
        name: entry
        for name, entry in registry.parts(options.kind or None).items()
        if needle in name.lower() or needle in entry["doc"].lower()
    }
    if options.as_json:
        show_json(found)
    else:
        print(columns((name, registry.KINDS[entry["kind"]], entry["doc"]) for name, entry in found.items()))
    return 0
