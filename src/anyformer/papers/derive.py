"""Derive `cards.json` and `goldens.json` from the cards and from the tests' goldens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anyformer.core.errors import DataError
from anyformer.papers import CARDS, FOLDER, GOLDENS


def read_cards(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Every card of a folder as it is written, by slug. Raises `DataError` for a card under another name."""
    import yaml

    found = {}
    for path in sorted(folder.glob("*.yaml")):
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(data, dict) or data.get("slug") != path.stem:
            raise DataError(f"{path.name} holds a card whose slug is its file's name; rename one of the two.")
        found[path.stem] = data
    return found


def read_goldens(folder: Path) -> dict[str, list[str]]:
    """Paper to the names of its goldens, by the files `<paper>--<name>--<source>.json` of a folder."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*--*--*.json")):
        paper, name = path.name.removesuffix(".json").split("--", 1)
        found.setdefault(paper, []).append(name)
    return found


def checkout() -> Path:
    """The folder of goldens in this source tree. Raises `DataError` where there is only an installed package."""
    tests = FOLDER.parents[2] / "tests"
    if not tests.is_dir():
        raise DataError(f"there are no tests at {tests}; run this in a checkout of anyformer's repository.")
    return tests / "goldens"


def main() -> int:
    """Write both files."""
    goldens = read_goldens(checkout())
    CARDS.write_text(json.dumps(read_cards(), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    GOLDENS.write_text(json.dumps(goldens, indent=0) + "\n", encoding="utf-8")
    return 0
