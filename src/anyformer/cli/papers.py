"""List papers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

from anyformer import papers
from anyformer.cli.output import columns, show_json

EXAMPLES = """examples:
  anyformer papers
  anyformer papers state space               cards that speak of it
  anyformer papers --room layers --year 2022
  anyformer papers --here                    papers of which something is here
  anyformer papers --kind survey --count"""


@dataclass
class Options:
    """List the papers: slug, year, and one sentence. A star marks those of which something is here."""

    text: Positional[tuple[str, ...]] = ()
    """Only cards that contain this text."""
    room: str = ""
    """Only papers of this room, such as models/vision or layers."""
    kind: str = ""
    """Only papers of this kind: architecture, method, application, theory, benchmark, library, dataset, survey."""
    year: int = 0
    """Only papers of this year."""
    here: bool = False
    """Only papers of which something is here: parts, models, methods, a claim."""
    count: bool = False
    """Print only how many there are: in all, with something here, with a claim, with a claim that held."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    found = papers.select(
        " ".join(options.text), room=options.room or None, kind=options.kind or None, year=options.year or None
    )
    present = {card.slug: papers.here(card.slug) for card in found}
    if options.here:
        found = [card for card in found if present[card.slug]]
    if options.count:
        counts = {
            "papers": len(found),
            "here": sum(bool(present[c.slug]) for c in found),
            "claims": sum(present[c.slug].claim is not None for c in found),
            "held": sum(present[c.slug].held is True for c in found),
        }
        if options.as_json:
            show_json(counts)
        else:
            print(columns((name, str(number)) for name, number in counts.items()))
    elif options.as_json:
        show_json([asdict(card) | {"here": asdict(present[card.slug])} for card in found])
    else:
        print(columns((c.slug, "*" if present[c.slug] else " ", str(c.year), c.sentence) for c in found))
    return 0
