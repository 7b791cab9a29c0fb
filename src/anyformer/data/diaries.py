"""Diaries of a week, a sentence a day: texts whose sentences have an order, and belong together."""

from __future__ import annotations

import random

from anyformer.core.errors import OptionError

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jane", "Kim", "Leo")
THEMES = {
    "garden": (("watered", "planted", "cut", "moved"), ("roses", "hedge", "beans", "lawn", "pear tree")),
    "kitchen": (("baked", "tasted", "burnt", "froze"), ("bread", "soup", "cake", "pie", "pancakes")),
    "harbour": (("painted", "moored", "sailed", "repaired"), ("boat", "ferry", "dinghy", "mast", "anchor")),
    "school": (("read", "copied", "forgot", "explained"), ("poem", "lesson", "map", "homework", "sums")),
    "workshop": (("sawed", "glued", "sanded", "drilled"), ("chair", "shelf", "table", "frame", "door")),
    "music": (("practised", "tuned", "played", "heard"), ("cello", "organ", "sonata", "drums", "waltz")),
}
"""What a diary is about: what is done in it, and to what."""


def diaries(count: int, seed: int = 0) -> list[str]:
    """So many different texts of seven sentences, from Monday to Sunday, of one person and one theme.

    Raises `OptionError` for fewer than one.
    """
    if count < 1:
        raise OptionError(f"diaries are one or more; given {count}.")
    dice = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        name, (deeds, things) = dice.choice(NAMES), dice.choice(list(THEMES.values()))
        week = (f"On {day} {name} {dice.choice(deeds)} the {dice.choice(things)}." for day in DAYS)
        found[" ".join(week)] = None
    return list(found)
