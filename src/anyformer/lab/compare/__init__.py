"""Compare models: several on one task under one budget, with a table, a record of every run, and a report."""

from __future__ import annotations

from anyformer.lab.compare.compare import Comparison, compare
from anyformer.lab.compare.summary import Row, Spread

__all__ = ["Comparison", "Row", "Spread", "compare"]
