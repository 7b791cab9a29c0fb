"""The report of a comparison: one page, everything in it, readable without its script."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyformer.core.spec import Spec
from anyformer.lab.profile.report import count
from anyformer.lab.report import samples
from anyformer.lab.report.html import Markup, asset, embed_json, name, tag
from anyformer.lab.train.checkpoint import write_atomically
from anyformer.tasks.task import Task

if TYPE_CHECKING:
    from anyformer.lab.compare.compare import Comparison
    from anyformer.lab.compare.summary import Row, Spread


def write_report(comparison: Comparison, task: Task, path: Path) -> Path:
    """Write a comparison as one HTML file that needs no network.

    Args:
        comparison: what came out; nothing is measured here.
        task: where the samples that are shown come from.
        path: of the file.

    Raises `CheckpointError` where it cannot be written.
    """
    write_atomically(path, page(comparison, task))
    return path


def page(comparison: Comparison, task: Task) -> str:
    """The whole page."""
    runs = samples.runs_of(comparison)
    parts = [
        section("Result", result_table(comparison), caveat_list(comparison, task)),
        section("Quality against cost", tag("div", id="fronts", cls="panels"),
                note="Up and left is better; the line is the Pareto front: models that no other beats in both. Bars are "
                     "95 % intervals over seeds.") if runs else None,
        section("Learning curves", tag("div", id="curves"),
                note="Mean over seeds, the band from the lowest to the highest.") if runs else None,
        section("Choice of the learning rate", tag("div", id="sweep"),
                note="Loss on the validation part after each short run of the sweep; the ring is the rate that was taken."),
        section("Per class", samples.per_class(runs), note="Recall in percent on the test part, mean over seeds; the hardest "
                "class first. The warmer a cell, the more of its samples were missed."),
        section("Where the models disagree", samples.disagreements(runs, task)),
        section("Passages that divide the models", samples.passages(runs, task), note="Bits per byte, mean over seeds."),
        section("How they go on", samples.continuations(runs, task)),
        section("What was run", setup(comparison)),
    ]  # fmt: skip
    title = f"{number(len(comparison.rows)).capitalize()} models on {task.name}"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · anyformer compare"),
        tag("style", asset("style.css")),
    ]
    body = [header(comparison, title), tag("main", parts), embed_json(chart_data(comparison), "data")]
    return "<!doctype html>\n" + tag(
        "html", tag("head", head), tag("body", body, tag("script", asset("charts.js"))), lang="en"
    )


def section(title: str, *content: Markup | None, note: str | None = None) -> Markup | None:
    """A part of the page; none where there is nothing to show."""
    if not any(content):
        return None
    return tag("section", tag("h2", title), tag("p", note, cls="note") if note else None, content)


def header(comparison: Comparison, title: str) -> Markup:
    """Title, the answer in a sentence, and what was asked."""
    seeds = len(comparison.seeds)
    facts = [
        ("budget", f"{comparison.budget} per model and seed"),
        ("seeds", seeds),
        ("size", f"{comparison.size:,} parameters" if comparison.size else "each its own"),
        ("batch", comparison.config["batch_size"]),
        ("rates tried", ", ".join(f"{r:g}" for r in comparison.rates)),
        ("machine", comparison.fingerprint["machine"]["processor"]),
    ]
    theme = tag("button", "◐", id="theme", title="light or dark", aria_label="light or dark")
    return tag(
        "header",
        tag("div", tag("span", "anyformer compare", cls="brand"), tag("time", comparison.fingerprint["time"][:10]), theme, cls="bar"),
        tag("h1", title),
        tag("p", answer(comparison), cls="lede"),
        tag("dl", [tag("div", tag("dt", k), tag("dd", v)) for k, v in facts], cls="facts"),
    )  # fmt: skip


def answer(comparison: Comparison) -> list[Any]:
    """Who is best, who cannot be told from it, and who is cheapest among these."""
    rows = [r for r in comparison.rows if r.metric is not None]
    if not rows or rows[0].metric is None:
        return ["No model has a result."]
    best = rows[0]
    words: list[Any] = [tag("b", best.model), f" is best: {shown(comparison, rows[0].metric.mean)} {words_of(comparison)}"]
    if rows[0].metric.std is not None:
        words.append(f" ± {shown(comparison, rows[0].metric.std)} over {len(rows[0].metric.values)} seeds")
    words.append(". ")
    tied = [r for r in rows if r.tied]
    if tied:
        words += [tag("b", join([r.model for r in tied])), " cannot be told from it. "]
    close = [r for r in (best, *tied) if r.latency is not None]
    if len(close) > 1:
        fast = min(close, key=lambda r: r.latency or math.inf)
        words.append(f"Among these, {fast.model} answers fastest ({1e3 * (fast.latency or 0):.2f} ms).")
    return words


def result_table(comparison: Comparison) -> Markup:
    """The rows, each with its metric drawn on a common scale; columns sort on a click."""
    columns = ("model", words_of(comparison), "± std", "", "parameters", "multiply-adds", "latency", "inputs/s",
               "memory", "training", "sweep", "rate", "steps")  # fmt: skip
    explained = {
        "latency": "median time of one input", "inputs/s": f"at batch {comparison.config['batch_size']}",
        "memory": "of a training step at its peak: weights, gradients, AdamW's moments, saved activations",
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
    badge = tag("span", "best", cls="badge") if row.best else tag("span", "tied", cls="badge quiet") if row.tied else None
    partly = tag("div", row.error, cls="error") if row.error else None
    low, high = f"{shown(comparison, whisker(m)[0])}", f"{shown(comparison, whisker(m)[1])}"
    seeds = ", ".join(shown(comparison, v) for v in m.values)
    tip = f"{low} to {high} (95 % interval of the mean); per seed: {seeds}" if m.std is not None else f"one seed: {seeds}"
    return tag(
        "tr",
        tag("th", swatch, name(row.model), badge, partly, scope="row"),
        tag("td", tag("b", shown(comparison, m.mean)), cls="number", data_value=m.mean),
        cell(m.std, "" if m.std is None else shown(comparison, m.std)),
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
    found.append(f"Times are of one machine ({threads or 'unknown'} threads) and of nothing else running on it.")
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


def setup(comparison: Comparison) -> list[Markup]:
    """Recipe, data, machine and versions, and every model's spec."""
    prints = comparison.fingerprint
    where = {"commit": prints["commit"] or "none", **prints["machine"], **prints["versions"], "time (UTC)": prints["time"]}
    specs = [
        tag("details", tag("summary", name), tag("pre", Spec.from_dict(spec).to_yaml()))
        for name, spec in comparison.models.items()
    ]
    return [
        tag("div", facts("Recipe, the same for all", {**comparison.config, "seeds": list(comparison.seeds)}),
            facts("Data", comparison.task), facts("Machine and versions", where), cls="columns"),
        tag("h3", "Models"),
        *specs,
    ]  # fmt: skip


def facts(title: str, values: dict[str, Any]) -> Markup:
    rows = [tag("div", tag("dt", k.replace("_", " ")), tag("dd", plain(v))) for k, v in values.items()]
    return tag("div", tag("h3", title), tag("dl", rows, cls="list"))


def plain(value: Any) -> str:
    """A value in words."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def chart_data(comparison: Comparison) -> dict[str, Any]:
    """What the page's script draws: the rows, and the points of every curve as [step, seconds, flop, value]."""
    runs = samples.runs_of(comparison)
    curves = {
        model: [
            {
                "seed": r["seed"],
                "loss": [[p["step"], p["seconds"], p["step"] * r["step_flop"], p["loss"]] for p in r["curve"]],
                "valid": [
                    [p["step"], p["seconds"], p["step"] * r["step_flop"], p["valid"][comparison.metric]]
                    for p in r["measured"]
                ],
            }
            for r in rs
        ]
        for model, rs in runs.items()
    }
    tried = [r for r in comparison.records if r["kind"] == "sweep" and "error" not in r]
    keys = ("model", "parameters", "operations", "latency", "rate")
    return {
        "metric": words_of(comparison),
        "share": is_share(comparison),
        "higher": comparison.higher_is_better,
        "order": list(comparison.models),
        "rows": [
            {**{k: getattr(r, k) for k in keys}, "mean": r.metric.mean, "low": r.metric.low, "high": r.metric.high}
            for r in comparison.rows
            if r.metric is not None
        ],
        "curves": curves,
        "sweep": [{k: r[k] for k in ("model", "rate", "loss", "steps", "budget")} for r in tried],
    }


def is_share(comparison: Comparison) -> bool:
    from anyformer.lab.compare.summary import is_share

    return is_share(comparison.metric)


def shown(comparison: Comparison, value: float) -> str:
    """A value of the metric as people read it."""
    return f"{100 * value:.1f}" if is_share(comparison) else f"{value:.3f}"


def words_of(comparison: Comparison) -> str:
    """The metric's name."""
    return comparison.metric.replace("_", " ") + (" %" if is_share(comparison) else "")


def number(n: int) -> str:
    """Small numbers as words."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[n] if n < len(words) else str(n)


def join(names: list[str]) -> str:
    """Names as a sentence has them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
