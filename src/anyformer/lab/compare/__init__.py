"""Compare models: several on one task under one budget, with a table, a record of every run, and a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyformer.lab.compare.comparison import Comparison, compare
    from anyformer.lab.compare.summary import Row, Spread

_WHERE = {"Comparison": "comparison", "compare": "comparison", "Row": "summary", "Spread": "summary"}
__all__ = ["Comparison", "Row", "Spread", "compare"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line can read the defaults without torch."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
