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
    from anyformer.lab.compare.plan import Comparison


def caveat_list(comparison: Comparison, task: Task) -> Markup:
    return tag("aside", tag("h3", "Read with care"), tag("ul", [tag("li", c) for c in caveats(comparison, task)]))


def caveats(comparison: Comparison, task: Task) -> list[str]:
    """What these numbers do not say."""
    rows = [r for r in comparison.rows if r.metric is not None and r.metric.values]
    found = []
    seeds = len(comparison.seeds)
    if seeds == 1:
        found.append("One seed: no spread is known, and differences may be chance. Three or more show it.")
    elif rows:
        half = statistics.median((r.metric.high - r.metric.low) / 2 for r in rows if r.metric and r.metric.high is not None
                                 and r.metric.low is not None) if any(r.metric and r.metric.low is not None for r in rows) else 0.0  # fmt: skip
        found.append(
            f"{number(seeds).capitalize()} seeds: a mean is known to about ± {shown(comparison, half)} (95 %, the median over "
            f"models). The interval covers starting weights, order of the data and dropout, not the choice of the data."
        )
    samples_tested = task.size("test")
    if rows and is_share(comparison) and rows[0].metric is not None:
        p = min(max(rows[0].metric.mean, 1 / samples_tested), 1 - 1 / samples_tested)
        error = 1.96 * math.sqrt(p * (1 - p) / samples_tested)
        found.append(
            f"The test part has {samples_tested:,} samples, so another draw of it would move a result by about "
            f"± {shown(comparison, error)}; all models share this draw."
        )
    found.append(
        "The learning rate is the only thing that was chosen per model; the rest of the recipe is the same for all, "
        "and may suit some better. Short runs of the sweep favour higher rates."
    )
    timed = {r["fingerprint"]["machine"].get("threads") for r in comparison.records if r["kind"] == "cost" and "error" not in r}
    threads = ", ".join(str(t) for t in sorted(t for t in timed if t is not None))
    found.append(f"Times are of one machine (threads: {threads or 'unknown'}) and of nothing else running on it.")
    if comparison.size is None and len({r.parameters for r in rows}) > 1:
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
