"""What the numbers of a comparison do not say."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from anyformer.lab.compare.summary import is_share, show_metric
from anyformer.lab.report.html import Markup, tag
from anyformer.lab.report.words import join, number
from anyformer.tasks.task import Task

if TYPE_CHECKING:
    from anyformer.lab.compare.comparison import Comparison


def caveat_list(comparison: Comparison, task: Task) -> Markup:
    return tag("aside", tag("h3", "Read with care"), tag("ul", [tag("li", c) for c in caveats(comparison, task)]))


def caveats(comparison: Comparison, task: Task) -> list[str]:
    """What these numbers do not say."""
    ranked = [(r, r.metric) for r in comparison.rows if r.metric is not None]
    found = []
    seeds = len(comparison.seeds)
    halves = [(m.high - m.low) / 2 for _, m in ranked if m.high is not None and m.low is not None]
    if seeds == 1:
        found.append("One seed: no spread is known, and differences may be chance. Three or more show it.")
    elif halves:
        half = show_metric(statistics.median(halves), comparison.metric)
        found.append(
            f"{number(seeds).capitalize()} seeds: a mean is known to about ± {half} (95 %, the median over models). "
            "The interval covers starting weights, order of the data and dropout, not the choice of the data."
        )
    tested = task.size("test")
    if ranked and is_share(comparison.metric):
        share = min(max(ranked[0][1].mean, 1 / tested), 1 - 1 / tested)
        error = show_metric(1.96 * math.sqrt(share * (1 - share) / tested), comparison.metric)
        found.append(
            f"The test part has {tested:,} samples, so another draw of it would move a result by about ± {error}; all "
            "models share this draw."
        )
    found.append(
        "The learning rate is the only thing that was chosen per model; the rest of the recipe is the same for all, "
        "and may suit some better. Short runs of the sweep favour higher rates."
    )
    timed = {r["threads"] for r in comparison.records if r["kind"] == "cost" and "error" not in r}
    threads = ", ".join(map(str, sorted(timed))) or "unknown"
    found.append(f"Times are of this machine alone (threads: {threads}), and as quiet as it was.")
    if comparison.size is None and len({r.parameters for r, _ in ranked}) > 1:
        found.append("The models have different sizes; a common size makes a comparison of ideas.")
    commits = {r["fingerprint"]["commit"] for r in comparison.records}
    if len(commits) > 1:
        found.append(f"The runs come from {len(commits)} states of the code.")
    if any(c and c.endswith("+changes") for c in commits):
        found.append("The code had changes that were in no commit.")
    uncounted = sorted({u for r in comparison.records if r["kind"] == "cost" for u in r.get("uncounted", ())})
    if uncounted:
        found.append(f"Multiply-adds are without {join(uncounted)}, which have no formula.")
    failures = [r.model for r in comparison.rows if r.error]
    if failures:
        found.append(f"{join(failures)} failed, wholly or in part: the row says why.")
    return found
