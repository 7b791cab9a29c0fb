"""Names, numbers and budgets as a page says them."""

from __future__ import annotations

import re
from typing import Any

from anyformer.lab.compare.summary import is_share, show_metric


def plain(value: Any) -> str:
    """A value in words."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def in_words(value: float, metric: str) -> str:
    """A metric's value with its name: "97.5 % accuracy", "1.234 bits per byte"."""
    return f"{show_metric(value, metric)}{' %' if is_share(metric) else ''} {metric.replace('_', ' ')}"


def spaced(budget: str) -> str:
    """A budget with a space before its unit."""
    return re.sub(r"(?<=\d)(?=[a-zA-Z]{2,}$|[smh]$)", " ", budget)


def number(n: int) -> str:
    """Small numbers as words."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[n] if n < len(words) else str(n)


def join(names: list[str]) -> str:
    """Names as a sentence has them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
