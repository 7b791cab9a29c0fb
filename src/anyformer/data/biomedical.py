"""Sentences as biomedical abstracts have them, invented: names of substances, genes and diseases among plain words.

Names are put together from the pieces that such names have; a text names few of them often and most of them rarely.
Generated from a seed; no name here means anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from anyformer.core.errors import OptionError

STARTS = ("meth", "eth", "prop", "but", "phen", "benz", "chlor", "fluor", "nitr", "sulf", "hydr", "pyr", "ket", "thi")
MIDDLES = ("oxy", "yl", "amid", "azol", "idin", "oxan", "acet", "ylen", "anthr", "imid", "urac", "ox", "in", "olam")
ENDS = ("ine", "ol", "one", "ate", "ide", "amine", "ane", "azole", "mycin", "statin", "prazole", "cillin")
DEGREES = ("", "poly", "peri", "micro", "hyper")
ORGANS = ("hepat", "nephr", "gastr", "neur", "dermat", "cardi", "arthr", "encephal", "oste", "bronch", "pancreat")
DISORDERS = ("itis", "oma", "osis", "opathy", "algia", "ectasia", "omalacia", "openia")
LETTERS = "ABCDEFGHIKLMNPRSTX"
FORMS = (
    "the effect of {s} on {g} expression was measured in patients with {d}",
    "{s} and {s} inhibit {g} in cells of {d}",
    "treatment with {s} reduced {d} in mice without {g}",
    "mutations of {g} are associated with {d} and with response to {s}",
    "we found that {g} binds {s} but not {s}",
    "levels of {s} were higher in {d} than in {d}",
    "no difference was seen between {s} and placebo in patients with {d}",
    "{g} and {g} are required for the metabolism of {s}",
)
"""Sentences with places for a substance (s), a gene (g) and a disease (d)."""


def sentences(count: int, seed: int = 0, names: int = 400) -> list[str]:
    """So many sentences; a lexicon of `names` substances, half as many genes and half as many diseases is the seed's.

    The i-th name of each kind comes up in proportion to 1 / i. Raises `OptionError` below one sentence or two names,
    or for more names than can be put together.
    """
    most = 2 * len(DEGREES) * len(ORGANS) * len(DISORDERS)  # twice as many as diseases
    if count < 1 or not 2 <= names <= most:
        raise OptionError(f"text takes 1 sentence or more and 2 to {most} names; given {count} and {names}.")
    dice = random.Random(seed)
    lexicon = {
        "s": _different(names, lambda: dice.choice(STARTS) + _middles(dice) + dice.choice(ENDS)),
        "g": _different(names // 2, lambda: "".join(dice.choices(LETTERS, k=3)) + str(dice.randrange(1, 30))),
        "d": _different(names // 2, lambda: dice.choice(DEGREES) + dice.choice(ORGANS) + dice.choice(DISORDERS)),
    }
    odds = {kind: [1 / i for i in range(1, len(known) + 1)] for kind, known in lexicon.items()}

    def sentence() -> str:
        text = dice.choice(FORMS)
        for kind, known in lexicon.items():
            while (hole := f"{{{kind}}}") in text:
                text = text.replace(hole, dice.choices(known, odds[kind])[0], 1)
        return f"{text}."

    return [sentence() for _ in range(count)]


def _middles(dice: random.Random) -> str:
    return "".join(dice.choices(MIDDLES, k=dice.randint(1, 2)))


def _different(count: int, draw: Callable[[], str]) -> list[str]:
    """So many different names, in the order in which they are drawn."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw()] = None
    return list(found)
