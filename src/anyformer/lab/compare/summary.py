"""From records to rows: the mean over seeds, how far it can be trusted, and what each model cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A number measured once per seed.

    Attributes:
        mean: over seeds.
        std: standard deviation over seeds (n - 1); None for one seed.
        low, high: 95 % interval of the mean, by Student's t over seeds; None for one seed.
        values: per seed, in their order.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> Spread:
        """The spread of one value or more; the interval ends where the number's range does."""
        mean = statistics.fmean(values)
        if len(values) < 2:
            return Spread(mean, None, None, None, tuple(values))
        std = statistics.stdev(values)
        half = student(len(values) - 1) * std / math.sqrt(len(values))
        return Spread(mean, std, max(mean - half, within[0]), min(mean + half, within[1]), tuple(values))


def student(freedom: float, confidence: float = CONFIDENCE) -> float:
    """How many standard errors the two-sided interval reaches, for so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def tied(a: Spread, b: Spread) -> bool:
    """Whether two means cannot be told apart: zero lies in the 95 % interval of their difference.

    Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved".
    With one seed nothing can be said, and False is returned only where the means differ.
    """
    if a.std is None or b.std is None:
        return a.mean == b.mean
    errors = a.std**2 / len(a.values), b.std**2 / len(b.values)
    if sum(errors) == 0:
        return a.mean == b.mean
    freedom = sum(errors) ** 2 / sum(e**2 / (len(s.values) - 1) for e, s in zip(errors, (a, b), strict=True))
    return abs(a.mean - b.mean) <= student(freedom) * math.sqrt(sum(errors))


@dataclass(frozen=True)
class Row:
    """One model's result.

    Attributes:
        model: its name.
        metric: on the test part, over seeds; None where no run ended.
        parameters, operations: multiply-adds of one input.
        latency: seconds for one input. throughput: inputs per second at the training batch size.
        memory: bytes that a training step needs at its peak.
        seconds: of training, mean over seeds, the sweep not included; sweep_seconds: of the sweep.
        rate: chosen learning rate. steps: optimizer steps per run, mean over seeds.
        best, tied: whether its mean is the best, or cannot be told from the best.
        error: what went wrong, if anything did.
    """

    model: str
    metric: Spread | None
    parameters: int
    operations: int | None = None
    latency: float | None = None
    throughput: float | None = None
    memory: int | None = None
    seconds: float | None = None
    sweep_seconds: float | None = None
    rate: float | None = None
    steps: float | None = None
    best: bool = False
    tied: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_rows(
    parameters: dict[str, int], records: Iterable[dict[str, Any]], metric: str, higher_is_better: bool
) -> tuple[Row, ...]:
    """One row per model, best first, those without a result last.

    Args:
        parameters: of each model, by its name.
        records: "cost", "sweep" and "run" records of these models; those with an "error" are failures.
        metric: the key of a run's "test" that is compared.
        higher_is_better: which way.
    """
    records = list(records)
    limits = (0.0, 1.0) if is_share(metric) else (-math.inf, math.inf)
    rows = []
    for name, size in parameters.items():
        mine = [r for r in records if r["model"] == name]
        done = {kind: [r for r in mine if r["kind"] == kind and "error" not in r] for kind in ("cost", "sweep", "run")}
        cost = done["cost"][-1] if done["cost"] else {}
        runs = sorted(done["run"], key=lambda r: r["seed"])
        rows.append(
            Row(
                model=name,
                metric=Spread.of([r["test"][metric] for r in runs], limits) if runs else None,
                parameters=size,
                operations=cost.get("operations"),
                latency=cost.get("latency"),
                throughput=cost.get("throughput"),
                memory=cost.get("memory"),
                seconds=statistics.fmean(r["seconds"] for r in runs) if runs else None,
                sweep_seconds=sum(r["seconds"] for r in done["sweep"]),
                rate=runs[0]["rate"] if runs else None,
                steps=statistics.fmean(r["steps"] for r in runs) if runs else None,
                error="; ".join(dict.fromkeys(r["error"] for r in mine if "error" in r)) or None,
            )
        )
    return rank(rows, higher_is_better)


def rank(rows: Iterable[Row], higher_is_better: bool) -> tuple[Row, ...]:
    """The rows in order of their means, the best and those that cannot be told from it marked."""
    sign = -1 if higher_is_better else 1
    ordered = sorted(rows, key=lambda r: sign * r.metric.mean if r.metric is not None else math.inf)
    top = ordered[0].metric if ordered else None
    if top is None:
        return tuple(ordered)
    return tuple(
        Row(**{**vars(r), "best": i == 0, "tied": i > 0 and r.metric is not None and tied(top, r.metric)})
        for i, r in enumerate(ordered)
    )


def show_metric(value: float, metric: str) -> str:
    """A metric's value as people read it: shares in percent, the rest with three decimals."""
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.3f}"


def is_share(metric: str) -> bool:
    """Whether a metric is a fraction in [0, 1], shown in percent."""
    return metric in ("accuracy", "exact_match", "token_accuracy", "f1")


def metric_title(metric: str) -> str:
    return metric.replace("_", " ") + (" %" if is_share(metric) else "")


def table(rows: Sequence[Row], metric: str, title: str) -> Any:
    """A rich table of the rows."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from anyformer.lab.profile.report import count

    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("model", overflow="fold")
    columns = (
        metric_title(metric), "± std", "95 % interval", "params", "mult-adds", "latency", "inputs/s", "memory",
        "training", "rate", "steps",
    )  # fmt: skip
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for r in rows:
        if r.metric is None:
            named = escape(f"{r.model}\n  {r.error or 'no result'}")
            shown.add_row(named, "failed", "", "", count(r.parameters), style="red")
            continue
        m = r.metric
        ends = [show_metric(end, metric) for end in (m.low, m.high) if end is not None]
        partly = f"\n  [red]{escape(r.error)}[/]" if r.error else ""
        shown.add_row(
            escape(r.model) + (" *" if r.best or r.tied else "") + partly,
            show_metric(m.mean, metric),
            "" if m.std is None else show_metric(m.std, metric),
            " to ".join(ends),
            count(r.parameters),
            "" if r.operations is None else count(r.operations),
            "" if r.latency is None else f"{1e3 * r.latency:.2f} ms",
            "" if r.throughput is None else count(r.throughput),
            "" if r.memory is None else f"{count(r.memory)}B",
            "" if r.seconds is None else f"{r.seconds:.1f} s",
            "" if r.rate is None else f"{r.rate:.2g}",
            "" if r.steps is None else f"{r.steps:.0f}",
            style="bold" if r.best else None,
        )
    if any(r.tied for r in rows):
        shown.caption = "* best, or not to be told from it at 95 % over these seeds"
        shown.caption_justify = "left"
    return shown
