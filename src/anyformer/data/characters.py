"""Names of Unicode's characters, with what Python's own tables say of them: real short texts with several labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np

from anyformer.data.labelled_text import MultiLabelled

LAST = 0x1FC00
"""Characters from here on are named by their numbers, or say what others do."""
NUMBERED = ("CJK ", "HANGUL SYLLABLE ", "TANGUT ", "NUSHU ", "KHITAN ", "YI SYLLABLE ", "EGYPTIAN ", "ANATOLIAN ")
"""How names begin that say a number or a sound, and nothing of what the character is."""
KINDS = {"L": "letter", "M": "mark", "N": "number", "P": "punctuation", "S": "symbol"}
"""Labels by the first letter of the category."""


@cache
def characters(count: int, seed: int = 0) -> tuple[MultiLabelled, ...]:
    """So many names, drawn without repetition, each with one label or more; more kinds with a younger Python.

    The labels are the kind of a character (`KINDS`), and whether it is a capital or a small letter, is composed of
    others, is written from right to left, is mirrored there, or is wide in East Asian text.
    """
    known = [code for code in range(LAST) if _told(unicodedata.name(chr(code), ""), chr(code))]
    drawn = np.random.RandomState(seed).permutation(len(known))[:count]
    chosen = (chr(known[i]) for i in drawn)
    return tuple(MultiLabelled((unicodedata.name(c).lower(),), tuple(sorted(_labels(c)))) for c in chosen)


def _told(name: str, character: str) -> bool:
    """Whether a name says what its character is."""
    return bool(name) and not name.startswith(NUMBERED) and any(_labels(character))


def _labels(character: str) -> Iterator[str]:
    category = unicodedata.category(character)
    if category[0] in KINDS:
        yield KINDS[category[0]]
    if category in ("Lu", "Ll"):
        yield "capital" if category == "Lu" else "small"
    if unicodedata.decomposition(character):
        yield "composed"
    if unicodedata.bidirectional(character) in ("R", "AL"):
        yield "right to left"
    if unicodedata.mirrored(character):
        yield "mirrored"
    if unicodedata.east_asian_width(character) in ("W", "F"):
        yield "wide"
