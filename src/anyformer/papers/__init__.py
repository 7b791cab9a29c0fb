"""The cards of 306 papers, and what is here of each. Readable without torch.

A card is a YAML file named by its slug, written by hand. `cards.json` (all cards in one file, quick to read) and
`goldens.json` (which reference outputs the tests hold for each paper) are derived by `python -m anyformer.papers`
and held to their sources by a test. What is here of a paper is never written down: it is read from the registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from anyformer.core.errors import UnknownName, suggest
from anyformer.core.registry import index

FOLDER = Path(__file__).parent
CARDS = FOLDER / "cards.json"
GOLDENS = FOLDER / "goldens.json"
RESULTS = FOLDER.parent / "claims" / "results"
"""Where the last results of claims are kept."""

KINDS = ("architecture", "method", "application", "theory", "benchmark", "library", "dataset", "survey")
"""What a paper mainly brings."""


@dataclass(frozen=True)
class Card:
    """What a paper is.

    Attributes:
        slug: its name here.
        title, year, arxiv: of the paper; `arxiv` is None where there is no such number.
        kind: one of `KINDS`.
        room: where it lives in the library; `also` names further rooms.
        sentence: what it says, in one sentence.
        parts: the pieces that it brings, in its own terms.
        builds_on: what it needs, papers here by their slugs.
        repository: a public implementation on GitHub, or None.
    """

    slug: str
    title: str
    year: int
    arxiv: str | None
    kind: str
    room: str
    also: tuple[str, ...]
    sentence: str
    parts: tuple[str, ...]
    builds_on: tuple[str, ...]
    repository: str | None

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Card:
        """From a card as it is written."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Card(**values)


@dataclass(frozen=True)
class Here:
    """What is here of a paper, by the names that the registry knows.

    Attributes:
        parts, methods: names of parts and methods whose idea it is.
        models: family to its variants.
        claim: the module that re-runs its claim, or None.
        held: whether the claim held when it was last run; None if it was never run.
        goldens: names of the reference outputs that the tests hold.
    """

    parts: tuple[str, ...]
    models: dict[str, tuple[str, ...]]
    methods: tuple[str, ...]
    claim: str | None
    held: bool | None
    goldens: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.parts or self.models or self.methods or self.claim or self.goldens)


@cache
def cards() -> dict[str, Card]:
    """All cards by slug."""
    return {slug: Card.from_dict(data) for slug, data in json.loads(CARDS.read_text()).items()}


def card(slug: str) -> Card:
    """One card. Raises `UnknownName` with the nearest slugs."""
    if slug not in cards():
        raise UnknownName(f"there is no paper {slug!r}; {suggest(slug, cards())} ('anyformer papers' lists them.)")
    return cards()[slug]


@cache
def _goldens() -> dict[str, list[str]]:
    return json.loads(GOLDENS.read_text())


def here(slug: str) -> Here:
    """What is here of a paper, read from the registry and from the last result of its claim."""
    entries = index()
    return Here(
        parts=tuple(n for n, e in entries["parts"].items() if slug in e["papers"]),
        models={n: tuple(e["variants"]) for n, e in entries["families"].items() if slug in e["papers"]},
        methods=tuple(n for n, e in entries["methods"].items() if slug in e["papers"]),
        claim=entries["claims"].get(slug),
        held=_held(slug),
        goldens=tuple(_goldens().get(slug, ())),
    )


def _held(slug: str) -> bool | None:
    result = RESULTS / f"{slug}.json"
    return json.loads(result.read_text())["held"] if result.exists() else None


def in_room(room: str, name: str) -> bool:
    """Whether a room is `name` or lies inside it."""
    return room == name or room.startswith(name.rstrip("/") + "/")


def check_room(name: str) -> str:
    """`name` without a closing slash, if it is a room of some card. Raises `UnknownName` with the nearest rooms."""
    rooms = {room for c in cards().values() for room in (c.room, *c.also)}
    rooms |= {room.split("/")[0] for room in rooms}
    if name.rstrip("/") not in rooms:
        raise UnknownName(f"there is no room {name!r}; {suggest(name, rooms)}")
    return name.rstrip("/")


def select(
    text: str = "",
    *,
    room: str | None = None,
    kind: str | None = None,
    year: int | None = None,
) -> list[Card]:
    """The cards that fit, by slug.

    Args:
        text: occurs in slug, title, sentence, parts or arXiv number, whatever the case.
        room: the room, or a room around it: "layers", "models/vision".
        kind: one of `KINDS`.
        year: of the paper.

    Raises:
        UnknownName: a room or kind that there is not.
    """
    if room is not None:
        room = check_room(room)
    if kind is not None and kind not in KINDS:
        raise UnknownName(f"there is no kind of paper {kind!r}; {suggest(kind, KINDS)}")
    needle = text.lower()
    return [
        c
        for _, c in sorted(cards().items())
        if needle in "\n".join((c.slug, c.title, c.sentence, c.arxiv or "", *c.parts)).lower()
        and (room is None or any(in_room(r, room) for r in (c.room, *c.also)))
        and (kind is None or c.kind == kind)
        and (year is None or c.year == year)
    ]
