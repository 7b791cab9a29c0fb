"""Re-run claims."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from anyformer.cli.output import columns, show_json
from anyformer.core.errors import AnyformerError, OptionError
from anyformer.papers import RESULTS

if TYPE_CHECKING:
    from anyformer.lab.claim import Result

EXAMPLES = """examples:
  anyformer claim swin
  anyformer claim swin metaformer --seeds 0 1 2 3 4
  anyformer claim --room models/vision
  anyformer claim --all --strict             exit code 1 if any does not hold"""


@dataclass
class Options:
    """Re-run the central claims of papers: what is expected, what is measured, and whether it holds.

    A claim that does not hold in miniature is a finding and no failure: the exit code is 0 unless --strict is given.
    """

    papers: Positional[tuple[str, ...]] = ()
    """Slugs of papers."""
    room: str = ""
    """Claims of the papers of this room, such as models/vision."""
    all: bool = False
    """Every claim that there is."""
    seeds: tuple[int, ...] = ()
    """Other seeds than the claim states."""
    out: Path | None = None
    """Keep results in this folder; default: beside the claims."""
    strict: bool = False
    """Exit with 1 if a claim does not hold."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    from anyformer.lab.claim import find_claims, keep, run_claim
    from anyformer.lab.train.checkpoint import prepare_folder

    if not (options.papers or options.room or options.all):
        raise OptionError("claim takes slugs of papers, --room ROOM or --all; see 'anyformer claim --help'.")
    slugs = find_claims(options.papers, room=options.room or None)
    folder = options.out or RESULTS
    prepare_folder(folder)
    results, broken = [], []
    for slug in slugs:
        try:
            result = run_claim(slug, seeds=options.seeds or None)
        except Exception as error:  # one broken experiment does not end the others
            what = str(error) if isinstance(error, AnyformerError) else traceback.format_exc()
            print(f"anyformer: the claim {slug!r} broke: {what}", file=sys.stderr)
            broken.append(slug)
            continue
        keep(result, folder)
        results.append(result)
        if not options.as_json:
            print(text(result), flush=True)
    if options.as_json:
        show_json([result.to_dict() for result in results])
    return int(bool(broken) or (options.strict and not all(r.held for r in results)))


def text(result: Result) -> str:
    """A result to read: the statement, each expectation with its measurement, the verdict."""
    rows = [
        (
            f"  {'held' if finding.held else 'not held'}",
            f"expected {finding.expectation}",
            f"measured {finding.mean:.4g} [{finding.low:.4g}, {finding.high:.4g}]",
        )
        for finding in result.findings
    ]
    verdict = "holds" if result.held else "does not hold"
    slow = "" if result.within_limit else ", longer than the two minutes that a claim may take"
    last = f"  {verdict}: {len(result.seeds)} seeds, {result.seconds:.1f} s{slow}"
    return f"{result.paper}: {result.statement}\n  baseline: {result.baseline}\n{columns(rows)}\n{last}"
