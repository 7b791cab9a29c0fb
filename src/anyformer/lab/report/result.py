"""The table of a report: a row per model, its metric drawn on a common scale, columns that sort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyformer.lab.compare.summary import metric_title, show_metric
from anyformer.lab.profile.report import count
from anyformer.lab.report.html import Markup, name, tag

if TYPE_CHECKING:
    from anyformer.lab.compare.comparison import Comparison
    from anyformer.lab.compare.summary import Row, Spread


def result_table(comparison: Comparison) -> Markup:
    """The rows, each with its metric drawn on a common scale; columns sort on a click."""
    columns = ("model", metric_title(comparison.metric), "± std", "", "parameters", "multiply-adds", "latency",
               "inputs/s", "memory", "training", "sweep", "rate", "steps")  # fmt: skip
    explained = {
        "latency": "median time of one input", "inputs/s": f"at batch {comparison.config['batch_size']}",
        "memory": "of a training step at its peak: weights, gradients, the optimizer's moments, saved activations",
        "training": "per seed, the sweep not included", "sweep": "time spent on choosing the rate",
        "± std": "standard deviation over seeds", "rate": "chosen on the validation part",
        "multiply-adds": "of one input",
    }  # fmt: skip
    head = tag("tr", [tag("th", c, data_tip=explained.get(c), cls=None if c == "model" else "number") for c in columns])
    values = [v for r in comparison.rows if r.metric for v in whisker(r.metric)]
    scale = (min(values), max(values)) if values else (0.0, 1.0)
    rows = [table_row(comparison, r, scale) for r in comparison.rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), cls="results", id="results"), cls="scroll")


def table_row(comparison: Comparison, row: Row, scale: tuple[float, float]) -> Markup:
    def cell(value: float | None, text: str) -> Markup:
        return tag("td", "" if value is None else text, cls="number", data_value=value)

    swatch = tag("i", cls="swatch", data_model=row.model)
    if row.metric is None:
        error = tag("td", tag("b", "failed"), ": ", row.error or "no run ended", colspan=12, cls="error")
        return tag("tr", tag("th", swatch, name(row.model), scope="row"), error, cls="failed")
    m = row.metric

    def metric(value: float) -> str:
        return show_metric(value, comparison.metric)

    badge = None
    if row.best or row.tied:
        badge = tag("span", "best" if row.best else "tied", cls="badge" if row.best else "badge quiet")
    partly = tag("div", row.error, cls="error") if row.error else None
    low, high = whisker(m)
    tip = f"per seed: {', '.join(map(metric, m.values))}"
    if m.std is not None:
        tip = f"{metric(low)} to {metric(high)} (95 % interval of the mean); {tip}"
    return tag(
        "tr",
        tag("th", swatch, name(row.model), badge, partly, scope="row"),
        tag("td", tag("b", metric(m.mean)), cls="number", data_value=m.mean),
        cell(m.std, "" if m.std is None else metric(m.std)),
        tag("td", interval(m, scale, row.model), data_value=m.mean, data_tip=tip, tabindex=0),
        cell(row.parameters, count(row.parameters)),
        cell(row.operations, count(row.operations or 0)),
        cell(row.latency, f"{1e3 * (row.latency or 0):.2f} ms"),
        cell(row.throughput, count(row.throughput or 0)),
        cell(row.memory, f"{count(row.memory or 0)}B"),
        cell(row.seconds, f"{row.seconds or 0:.1f} s"),
        cell(row.sweep_seconds, f"{row.sweep_seconds or 0:.1f} s"),
        cell(row.rate, f"{row.rate or 0:g}"),
        cell(row.steps, f"{row.steps or 0:.0f}"),
        cls="best" if row.best else None,
    )


def whisker(m: Spread) -> tuple[float, float]:
    return (m.mean, m.mean) if m.low is None or m.high is None else (m.low, m.high)


def interval(m: Spread, scale: tuple[float, float], model: str) -> Markup:
    """The 95 % interval as a bar, the mean as a dot, the seeds as ticks."""
    width, pad = 132, 6

    def x(value: float) -> str:
        share = (value - scale[0]) / (scale[1] - scale[0]) if scale[1] > scale[0] else 0.5
        return f"{pad + share * (width - 2 * pad):.1f}"

    low, high = whisker(m)
    marks = [
        tag("line", x1=pad, x2=width - pad, y1=9, y2=9, cls="rail"),
        tag("line", x1=x(low), x2=x(high), y1=9, y2=9, cls="span"),
        *(tag("line", x1=x(v), x2=x(v), y1=5, y2=13, cls="seed") for v in m.values if len(m.values) > 1),
        tag("circle", cx=x(m.mean), cy=9, r=4),
    ]
    return tag("svg", marks, width=width, height=18, cls="interval", data_model=model, aria_hidden="true")
