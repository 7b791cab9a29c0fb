"""Re-run a paper's central claim in miniature: what is expected, what was measured, and whether it held."""

from __future__ import annotations

import importlib
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anyformer import papers
from anyformer.core.errors import AnyformerError, OptionError, UnknownName, suggest
from anyformer.core.files import write_whole
from anyformer.core.registry import index
from anyformer.lab.train.fingerprint import fingerprint

LIMIT = 120.0
"""Seconds that a claim may take on two cores; a result says when it took longer."""


@dataclass(frozen=True)
class Expect:
    """What one measured number must be for the claim to hold, in the mean over the seeds.

    Attributes:
        number: its name in what the claim measures.
        at_least, at_most: limits; one or both.
        unit: of the number, in words.
    """

    number: str
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise OptionError(f"Expect({self.number!r}) needs at_least=, at_most= or both.")

    def __str__(self) -> str:
        low = "" if self.at_least is None else f"{self.at_least:g} <= "
        high = "" if self.at_most is None else f" <= {self.at_most:g}"
        return f"{low}{self.number}{high}" + (f" ({self.unit})" if self.unit else "")

    def holds(self, value: float) -> bool:
        """Whether a number is within the limits."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Claim:
    """A claim as it is stated before anything is measured.

    Attributes:
        statement: what the paper says, as one sentence.
        baseline: what it is compared with.
        expect: what must hold, all of it.
        seeds: one measurement for each.
    """

    statement: str
    baseline: str
    expect: tuple[Expect, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not self.expect or not self.seeds:
            raise OptionError("a claim expects something, and is measured with one seed or more.")


@dataclass(frozen=True)
class Finding:
    """One expectation, and what became of it."""

    expectation: str
    mean: float
    low: float
    high: float
    held: bool


@dataclass(frozen=True)
class Result:
    """A claim that was run.

    Attributes:
        paper: slug of the card.
        statement, baseline, seeds: as stated.
        findings: one per expectation.
        measured: every number that was measured, by seed.
        held: whether all expectations did.
        seconds: how long it took, all seeds together.
        within_limit: whether that is within two minutes.
        commit, versions, machine, time: where and when.
    """

    paper: str
    statement: str
    baseline: str
    seeds: tuple[int, ...]
    findings: tuple[Finding, ...]
    measured: dict[str, tuple[float, ...]]
    held: bool
    seconds: float
    within_limit: bool
    commit: str | None
    versions: dict[str, str]
    machine: dict[str, Any]
    time: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it is kept."""
        return asdict(self)


def find_claims(slugs: Sequence[str] = (), *, room: str | None = None) -> list[str]:
    """The claims that are meant: these, those of the papers of a room, or all.

    Raises `UnknownName` for a paper without a claim, and for a room without one.
    """
    known = index()["claims"]
    for slug in slugs:
        if slug not in known:
            if slug in papers.cards():
                raise UnknownName(f"the paper {slug!r} has no claim here yet; {suggest(slug, known)}")
            raise UnknownName(f"there is no claim {slug!r}; {suggest(slug, known)}")
    if room is None:
        return list(slugs) or sorted(known)
    inside = {card.slug for card in papers.select(room=room)}
    found = [slug for slug in sorted(known) if slug in inside and (not slugs or slug in slugs)]
    if not found:
        raise UnknownName(f"no paper of the room {room!r} has a claim here yet; known: {', '.join(sorted(known))}.")
    return found


def run_claim(slug: str, *, seeds: Sequence[int] | None = None) -> Result:
    """Run one claim.

    Args:
        slug: of the paper.
        seeds: other seeds than those stated.

    Raises:
        UnknownName: there is no such claim.
        AnyformerError: the claim does not measure what it expects, or something that is no finite number.
    """
    module = importlib.import_module(index()["claims"][find_claims([slug])[0]])
    return measure_claim(slug, module.CLAIM, module.measure, seeds=seeds)


def measure_claim(
    paper: str,
    claim: Claim,
    measure: Callable[[int], dict[str, float]],
    *,
    seeds: Sequence[int] | None = None,
) -> Result:
    """Measure a claim with each seed and hold the means against what is expected."""
    seeds = tuple(claim.seeds if seeds is None else seeds)
    if not seeds:
        raise OptionError("a claim is measured with one seed or more; given none.")
    begin = time.perf_counter()
    by_seed = []
    for seed in seeds:
        set_seeds(seed)
        by_seed.append({name: float(value) for name, value in measure(seed).items()})
    seconds = time.perf_counter() - begin
    missing = {e.number for e in claim.expect} - set.intersection(*(set(numbers) for numbers in by_seed))
    if missing:
        raise AnyformerError(
            f"the claim {paper!r} expects {', '.join(sorted(missing))} but measured only "
            f"{', '.join(sorted(by_seed[0]))}: measure(seed) has to return every number that is expected."
        )
    for seed, numbers in zip(seeds, by_seed, strict=True):
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise AnyformerError(f"the claim {paper!r} measured {name} = {value} with seed {seed}.")
    measured = {name: tuple(numbers[name] for numbers in by_seed if name in numbers) for name in by_seed[0]}
    findings = tuple(find(expect, measured[expect.number]) for expect in claim.expect)
    return Result(
        paper=paper,
        statement=claim.statement,
        baseline=claim.baseline,
        seeds=seeds,
        findings=findings,
        measured=measured,
        held=all(f.held for f in findings),
        seconds=round(seconds, 2),
        within_limit=seconds <= LIMIT,
        **fingerprint(),
    )


def find(expect: Expect, values: Sequence[float]) -> Finding:
    """Hold the mean of some values against an expectation."""
    mean = statistics.fmean(values)
    return Finding(str(expect), mean, min(values), max(values), expect.holds(mean))


def set_seeds(seed: int) -> None:
    """Python's, numpy's and torch's global generators."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def keep(result: Result, folder: Path | None = None) -> Path:
    """Write a result over the last one of its paper, all of it or nothing; by default beside the claims."""
    path = (papers.RESULTS if folder is None else Path(folder)) / f"{result.paper}.json"
    text = json.dumps(result.to_dict(), indent=1) + "\n"
    write_whole(path, lambda partial: partial.write_text(text))
    return path
