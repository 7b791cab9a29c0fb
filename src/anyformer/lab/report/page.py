"""The report of a comparison: one page, everything in it, readable without its script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyformer.core.spec import Spec
from anyformer.lab.compare.summary import is_share, metric_title, show_metric
from anyformer.lab.report import samples
from anyformer.lab.report.caveats import caveat_list
from anyformer.lab.report.html import Markup, asset, embed_json, tag
from anyformer.lab.report.result import result_table
from anyformer.lab.report.words import in_words, join, number, plain, spaced
from anyformer.lab.train.checkpoint import write_atomically
from anyformer.tasks.task import Task

if TYPE_CHECKING:
    from anyformer.lab.compare.comparison import Comparison


def write_report(comparison: Comparison, task: Task, path: Path) -> Path:
    """Write a comparison as one HTML file that needs no network.

    Args:
        comparison: what came out; nothing is measured here.
        task: where the samples that are shown come from.
        path: of the file.

    Raises `AnyformerError` where it cannot be written.
    """
    write_atomically(path, page(comparison, task))
    return path


NOTES = {
    "front": "Up and left is better; the line is the Pareto front: models that no other beats in both. Bars are 95 % "
    "intervals over seeds.",
    "curves": "Mean over seeds, the band from the lowest to the highest.",
    "sweep": "Loss on the validation part after each short run of the sweep; the ring is the rate that was taken.",
    "classes": "Recall in percent on the test part, mean over seeds; the hardest class first. The warmer a cell, the "
    "more of its samples were missed.",
    "passages": "Bits per byte, mean over seeds, of the passages of the test text on which they differ most.",
    "pictures": "The first seed of each model.",
    "texts": "Always the likeliest token; the first seed of each model.",
}


def page(comparison: Comparison, task: Task) -> str:
    """The whole page."""
    runs = samples.runs_of(comparison)
    fronts, curves = (tag("div", id="fronts", cls="panels"), tag("div", id="curves")) if runs else (None, None)
    swept = tag("div", id="sweep") if len(comparison.rates) > 1 else None
    parts = [
        section("Result", result_table(comparison), caveat_list(comparison, task)),
        section("Quality against cost", fronts, note=NOTES["front"]),
        section("Learning curves", curves, note=NOTES["curves"]),
        section("Choice of the learning rate", swept, note=NOTES["sweep"]),
        section("Per class", samples.per_class(runs), note=NOTES["classes"]),
        section("Where the models disagree", samples.disagreements(runs, task)),
        section("Passages that divide the models", samples.passages(runs, task), note=NOTES["passages"]),
        section("What they make of the first test samples", samples.pictures(runs), note=NOTES["pictures"]),
        section("How they go on", samples.continuations(runs), note=NOTES["texts"]),
        section("What was run", setup(comparison)),
    ]
    models = len(comparison.rows)
    title = f"{number(models).capitalize()} model{'s' * (models > 1)} on {task.name}"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · anyformer compare"),
        tag("style", asset("style.css")),
    ]
    body = [header(comparison, title), tag("main", parts), embed_json(chart_data(comparison), "data")]
    document = tag("html", tag("head", head), tag("body", body, tag("script", asset("charts.js"))), lang="en")
    return f"<!doctype html>\n{document}\n"


def section(title: str, *content: Markup | list[Markup] | None, note: str | None = None) -> Markup | None:
    """A part of the page; none where there is nothing to show."""
    if not any(content):
        return None
    return tag("section", tag("h2", title), tag("p", note, cls="note") if note else None, content)


def header(comparison: Comparison, title: str) -> Markup:
    """Title, the answer in a sentence, and what was asked."""
    seeds = len(comparison.seeds)
    facts = [
        ("budget", f"{spaced(comparison.budget)} per model and seed"),
        ("seeds", seeds),
        ("size", f"{comparison.size:,} parameters" if comparison.size else "each its own"),
        ("batch", comparison.config["batch_size"]),
        ("rates tried", ", ".join(f"{r:g}" for r in comparison.rates)),
        ("machine", comparison.fingerprint["machine"]["processor"]),
    ]
    theme = tag("button", "◐", id="theme", title="light or dark", aria_label="light or dark")
    made = tag("time", comparison.fingerprint["time"][:10])
    return tag(
        "header",
        tag("div", tag("span", "anyformer compare", cls="brand"), made, theme, cls="bar"),
        tag("h1", title),
        tag("p", answer(comparison), cls="lede"),
        tag("dl", [tag("div", tag("dt", k), tag("dd", v)) for k, v in facts], cls="facts"),
    )


def answer(comparison: Comparison) -> list[Any]:
    """Who is best, who cannot be told from it, and who is fastest among these."""
    ranked = [(r, r.metric) for r in comparison.rows if r.metric is not None]
    if not ranked:
        return ["No model has a result."]
    (best, top), *_ = ranked
    words: list[Any] = [tag("b", best.model), " is best, at ", in_words(top.mean, comparison.metric)]
    if top.std is not None:
        words.append(f" (± {show_metric(top.std, comparison.metric)} over {len(top.values)} seeds)")
    words.append(". ")
    tied = [r for r, _ in ranked if r.tied]
    if tied:
        words += [tag("b", join([r.model for r in tied])), " cannot be told from it. "]
        latencies = {r.model: r.latency for r in (best, *tied) if r.latency is not None}
        if len(latencies) > 1:
            fast = min(latencies, key=lambda m: latencies[m])
            words.append(f"Among these, {fast} answers fastest ({1e3 * latencies[fast]:.2f} ms).")
    return words


def setup(comparison: Comparison) -> list[Markup]:
    """Recipe, data, machine and versions, and every model's spec."""
    prints = comparison.fingerprint
    code = {"commit": prints["commit"] or "none", "time (UTC)": prints["time"]}
    where = {**code, **prints["machine"], **prints["versions"]}
    specs = [
        tag("details", tag("summary", model), tag("pre", Spec.from_dict(spec).to_yaml()))
        for model, spec in comparison.models.items()
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
        "metric": metric_title(comparison.metric),
        "share": is_share(comparison.metric),
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
