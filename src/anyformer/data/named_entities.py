"""Sentences about people, places and companies with invented names, of which the context alone says what they name."""

from __future__ import annotations

import random
from collections.abc import Iterable

from anyformer.core.errors import OptionError
from anyformer.data.conll import Sentence

SYLLABLES = ("ba", "del", "fin", "gor", "ha", "jo", "kem", "li", "mar", "no", "pel", "ro", "sun", "ta", "vis", "wen")
FORMS = (
    "{person} flew from {place} to {place} .",
    "{person} works for {company} in {place} .",
    "{company} opened an office in {place} .",
    "{person} , who lives in {place} , left {company} .",
    "Last year {company} hired {person} .",
    "The mayor of {place} thanked {company} .",
    "{person} and {person} founded {company} .",
    "Shares of {company} fell , said {person} .",
    "It rained in {place} when {person} arrived .",
    "The bridge near {place} was built by {company} .",
    "Does {person} know that {company} moved to {place} ?",
    "The road from {place} to {place} is closed .",
)
"""Sentences with gaps; names of all kinds are made alike."""


def reports(count: int, seed: int = 0, without: Iterable[Sentence] = ()) -> list[Sentence]:
    """So many different sentences, none of which stands in `without`, with BIO tags of "person", "place", "company".

    Names have one or two words of two or three syllables, so that most of them are new in every sentence. Raises
    `OptionError` for fewer than one.
    """
    if count < 1:
        raise OptionError(f"reports are one sentence or more; given {count}.")
    dice, seen, found = random.Random(seed), set(without), []
    while len(found) < count:
        words: list[str] = []
        tags: list[str] = []
        for word in dice.choice(FORMS).split():
            name = _name(dice) if word.startswith("{") else [word]
            kind = word.strip("{}")
            words += name
            tags += [f"{'I' if i else 'B'}-{kind}" for i in range(len(name))] if word.startswith("{") else ["O"]
        sentence = Sentence(tuple(words), tuple(tags))
        if sentence not in seen:
            seen.add(sentence)
            found.append(sentence)
    return found


def _name(dice: random.Random) -> list[str]:
    return ["".join(dice.choices(SYLLABLES, k=dice.randint(2, 3))).title() for _ in range(dice.randint(1, 2))]
