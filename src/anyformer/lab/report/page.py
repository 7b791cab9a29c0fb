"""The report of a comparison: one page, everything in it, readable without its script."""

from __future__ import annotations

import math
import re
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
    from anyformer.lab.compare.plan import Comparison
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
        ("budget", f"{spaced(comparison.budget)} per model and seed"),
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
    name_of, unit = comparison.metric.replace("_", " "), " %" if is_share(comparison) else ""
    spread = ""
    if rows[0].metric.std is not None:
        spread = f" (± {shown(comparison, rows[0].metric.std)} over {len(rows[0].metric.values)} seeds)"
    words: list[Any] = [tag("b", best.model), f" is best, at {shown(comparison, rows[0].metric.mean)}{unit} {name_of}{spread}. "]
    tied = [r for r in rows if r.tied]
    if tied:
        words += [tag("b", join([r.model for r in tied])), " cannot be told from it. "]
    close = [r for r in (best, *tied) if r.latency is not None]
    if len(close) > 1:
        fast = min(close, key=lambda r: r.latency or math.inf)
        words.append(f"Among these, {fast.model} answers fastest ({1e3 * (fast.latency or 0):.2f} ms).")
    return words


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


