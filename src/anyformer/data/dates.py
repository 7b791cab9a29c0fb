"""Dates as people write them, and as ISO 8601 does: a translation that is generated, and can be learned in minutes."""

from __future__ import annotations

import datetime

import numpy as np

from anyformer.data.splits import SPLITS

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _ordinal(day: int) -> str:
    ending = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


STYLES = (
    lambda d: f"{d.day} {MONTHS[d.month - 1]} {d.year}",
    lambda d: f"{MONTHS[d.month - 1]} {d.day}, {d.year}",
    lambda d: f"{DAYS[d.weekday()]}, {d.day} {MONTHS[d.month - 1]} {d.year}",
    lambda d: f"{DAYS[d.weekday()][:3]} {MONTHS[d.month - 1][:3]} {d.day} {d.year}",
    lambda d: f"the {_ordinal(d.day)} of {MONTHS[d.month - 1]}, {d.year}",
    lambda d: f"{MONTHS[d.month - 1][:3].upper()} {_ordinal(d.day)} {d.year}",
    lambda d: f"{d.day:02}.{d.month:02}.{d.year}",
    lambda d: f"{d.day}. {d.month}. {d.year}",
    lambda d: f"{d.month}/{d.day}/{d.year}",
    lambda d: f"{d.day:02}-{MONTHS[d.month - 1][:3]}-{d.year}",
    lambda d: f"{d.year}{d.month:02}{d.day:02}",
    lambda d: f"{d.year}, {MONTHS[d.month - 1].lower()} {d.day}",
)
"""Each way of writing means one date only: dots put the day first, slashes the month."""


def date_pairs(sizes: dict[str, int], seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    """Pairs (a date in a random style, its ISO form) per part; no date stands in two parts.

    Args:
        sizes: pairs per part; together at most the 73,049 dates of 1900 to 2099.
    """
    span = (LAST - FIRST).days + 1
    random = np.random.RandomState(seed)
    days = random.permutation(span)
    styles = random.randint(len(STYLES), size=span)
    pairs, used = {}, 0
    for split in SPLITS:
        chosen = range(used, used + sizes[split])
        dates = [(FIRST + datetime.timedelta(days=int(days[i])), STYLES[styles[i]]) for i in chosen]
        pairs[split] = [(style(date), date.isoformat()) for date, style in dates]
        used += sizes[split]
    return pairs
