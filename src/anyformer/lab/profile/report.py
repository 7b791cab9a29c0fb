"""A profile to look at: a table for the terminal, and one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyformer.core.errors import AnyformerError, require
from anyformer.lab.profile.sweep import QUANTITIES, Profile


def table(profiles: Sequence[Profile]) -> Any:
    """A rich table: a row per model and size, then the growth exponents of the model."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    threads = {p.latency.threads for profile in profiles for p in profile.points}
    devices = {profile.device for profile in profiles}
    batches = {p.batch for profile in profiles for p in profile.points}
    title = f"{', '.join(sorted(devices))}, threads: {' or '.join(map(str, sorted(threads)))}"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("model", no_wrap=True)
    for column in ("size", "params", "mult-adds", "activations", "latency", "inputs/s"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.caption = f"latency at batch 1, inputs/s at batch {' or '.join(map(str, sorted(batches)))}"
    for profile in profiles:
        for point in profile.points:
            shown.add_row(
                profile.name,
                "own" if point.size is None else str(point.size),
                count(profile.parameters),
                count(point.operations) + ("+" if point.uncounted else ""),
                f"{count(point.activations)}B",
                f"{1e3 * point.latency.median:.2f} ms",
                f"{point.throughput:.1f}",
            )
        if profile.growth:
            grown = [f"^{profile.growth[q]:.2f}" if q in profile.growth else "-" for q in QUANTITIES]
            shown.add_row("", "growth", "", *grown, style="italic", end_section=True)
    foreign = sorted({op for profile in profiles for p in profile.points for op in p.uncounted})
    if foreign:
        shown.caption += f"; + without {', '.join(foreign)}, which have no formula"
    return shown


def count(number: float) -> str:
    """A number with three digits and a suffix: 1.25M."""
    for suffix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * unit:
            return f"{number / unit:.3g}{suffix}"
    return f"{number:.3g}"


def figure(profiles: Sequence[Profile]) -> Any:
    """A plotly figure: each quantity over the number of positions, both axes logarithmic."""
    subplots = require("plotly.subplots", "lab")
    graph = require("plotly.graph_objects", "lab")
    colors = require("plotly.colors", "lab").qualitative.Safe
    plot = subplots.make_subplots(rows=2, cols=2, subplot_titles=list(QUANTITIES.values()))
    for i, profile in enumerate(profiles):
        for j, quantity in enumerate(QUANTITIES):
            name = profile.name
            if quantity in profile.growth:
                name += f": {quantity} ^{profile.growth[quantity]:.2f}"
            line = graph.Scatter(
                x=[p.positions for p in profile.points],
                y=[p.value(quantity) for p in profile.points],
                text=["own size" if p.size is None else f"size {p.size}" for p in profile.points],
                name=name,
                legendgroup=profile.name,
                mode="lines+markers",
                line={"color": colors[i % len(colors)]},
                hovertemplate="%{text}<br>%{y:.4g}<extra>%{fullData.name}</extra>",
            )
            plot.add_trace(line, row=j // 2 + 1, col=j % 2 + 1)
    plot.update_xaxes(type="log", title="numbers in one input")
    plot.update_yaxes(type="log")
    plot.update_layout(template="plotly_white", height=800, title="How each model grows")
    return plot


def write_html(profiles: Sequence[Profile], path: str | Path) -> Path:
    """Write the figure as one file, plotly's script inside. Raises `AnyformerError` where it cannot be written."""
    text = figure(profiles).to_html(include_plotlyjs=True, full_html=True)
    path = Path(path)
    try:
        path.write_text(text)
    except OSError as error:
        raise AnyformerError(f"the plot cannot be written to {path}: {error.strerror}; give another --plot.") from error
    return path
