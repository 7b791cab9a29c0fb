"""The main job: which of these models is best on this task, for this budget?

Read `compare` first: check, measure costs, choose rates, train, sum up. Each piece of work ends as a line in
`records.jsonl`, and is not done again when the comparison is: so an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyformer.core.errors import AnyformerError, BudgetError, OptionError
from anyformer.lab.budget import Budget, parse_budget
from anyformer.lab.compare import measure, sweep
from anyformer.lab.compare.entrants import Entrant, Models, entrants, parse_size
from anyformer.lab.compare.ledger import Ledger, Record, key
from anyformer.lab.compare.summary import Row, make_rows
from anyformer.lab.train import TrainConfig
from anyformer.lab.train.checkpoint import write_atomically
from anyformer.lab.train.fingerprint import fingerprint, machine, versions
from anyformer.lab.train.loop import Diverged, TrainResult, train
from anyformer.tasks import create_task
from anyformer.tasks.task import Task

CURVE = 150
"""Points of a learning curve that a record keeps."""


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        rows: one per model, best first, failures last.
        task: its facts. metric, higher_is_better: what the rows are ordered by.
        budget, size, rates, seeds, config: what was asked for.
        models: name to Spec, as plain data.
        records: every run behind the rows.
        out: the folder. report: the HTML file in it.
    """

    rows: tuple[Row, ...]
    task: dict[str, Any]
    metric: str
    higher_is_better: bool
    budget: str
    size: int | None
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    config: dict[str, Any]
    models: dict[str, dict[str, Any]]
    records: tuple[Record, ...]
    out: Path
    report: Path
    fingerprint: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether at least one model has a result."""
        return any(row.metric is not None for row in self.rows)

    def table(self) -> Any:
        """The rows as a rich table."""
        from anyformer.lab.compare.summary import table

        size = "" if self.size is None else f", {self.size:,} parameters"
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        return table(self.rows, self.metric, f"{self.task['task']}: {self.budget} per model and seed, {seeds}{size}")

    def to_dict(self) -> dict[str, Any]:
        """All but the records, as plain data."""
        left_out = ("rows", "records", "out", "report")
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        rows = [row.to_dict() for row in self.rows]
        return {**plain, "rows": rows, "out": str(self.out), "report": str(self.report)}


def compare(
    models: Models,
    task: Task | str = "digits",
    budget: str | Budget = "60s",
    *,
    size: int | str | None = None,
    seeds: int = 3,
    rates: Sequence[float] = sweep.RATES,
    out: str | Path = "runs/compare",
    config: TrainConfig | None = None,
    tell: Callable[[str], None] | None = None,
    progress: bool = True,
) -> Comparison:
    """Train and measure several models on one task under one budget.

    **What is equal.** Each model gets the same budget per seed, for everything that is trained for it, the choice of
    its learning rate included. A quarter goes to a sweep by successive halving: all `rates` run briefly, the better
    half longer, until one is left (4 rates: 4 runs of 1/32, 2 of 1/16 of the budget, each with a whole schedule of
    its own). The rest, to the last step, is one run at that rate. The sweep is made once, with the first seed; further
    seeds repeat the run with the same rest of the budget, so that the spread is that of what the budget buys. The rest
    of the recipe is `config`, the same for all. Short runs favour higher rates; they do so for every model.

    **What is separate.** The rate is chosen by the loss on the validation part; the results are on the test part,
    measured once per run, with the last weights.

    **What is left.** `out` gets `records.jsonl` (every run with its seed, rate, curve, commit, versions and machine),
    `report.html`, `comparison.json`, and under `runs/` the weights of each run. The same call goes on where an
    interrupted one stopped, and uses what is there: adding a model or a seed costs only these. Records of another
    machine, of other libraries or another recipe are not used.

    Args:
        models: names, Specs, "swin_micro+mixer=pool" (the same with a part swapped or an option set), paths of YAML
            specs; or a mapping from names of your own to these.
        task: a task, or its name ("digits", "images:photos/", "text", "dates", ...).
        budget: "60s", "500steps", "10epochs", "2e14flop", per model and seed.
        size: parameters, such as 100_000 or "100k", that every model's widths are scaled to; None for no scaling.
        seeds: how many.
        rates: learning rates to choose from; a single one is used as it is, and gets the whole budget.
        out: folder for what is left.
        config: the recipe; its budget and learning rate are not used, its seed is the first.
        tell: is called with a line of text whenever something is finished.
        progress: show a bar for each run where standard error is a terminal.

    Raises:
        AnyformerError: a mistake in what was asked for, found before anything is trained: an unknown model, part,
            option or task, a size out of reach, a budget too small, a folder that cannot be written.

    A model that fails in measuring or training is a row with its error; the others go on.
    """
    plan = make_plan(models, task, budget, size, seeds, rates, Path(out), config, tell, progress)
    plan.measure_costs()
    chosen = {entrant.name: plan.choose_rate(entrant) for entrant in plan.entrants}
    for seed in plan.seeds:  # all models of a seed before the next one, so that a slow hour of the machine hits all
        for entrant in plan.entrants:
            if chosen[entrant.name] is not None:
                plan.train_one(entrant, seed, *chosen[entrant.name])
    return plan.finish()


def make_plan(
    models: Models,
    task: Task | str,
    budget: str | Budget,
    size: int | str | None,
    seeds: int,
    rates: Sequence[float],
    out: Path,
    config: TrainConfig | None,
    tell: Callable[[str], None] | None,
    progress: bool,
) -> Plan:
    """Check all that can be checked without a weight, and open the folder."""
    whole = parse_budget(budget)
    if seeds < 1:
        raise OptionError(f"a comparison takes at least one seed, and three to see a spread; given {seeds}.")
    rates = sweep.check_rates(rates)
    task = create_task(task)
    config = config or TrainConfig(evaluations=10)
    found = entrants(models, task, parse_size(size))
    if config.batch_size > task.size("train"):
        raise OptionError(
            f"batch_size is {config.batch_size}, but the training part has {task.size('train')} samples: use that or less."
        )
    if whole.unit == "epochs":
        whole = Budget(max(1, math.floor(whole.amount * (task.size("train") // config.batch_size))), "steps")
    if whole.unit == "steps":
        sweep.check_steps(whole.amount, rates, "every model", whole)
    ledger = Ledger(out / "records.jsonl")
    numbers = tuple(range(config.seed, config.seed + seeds))
    return Plan(found, task, whole, str(budget), parse_size(size), numbers, rates, out, config, ledger, tell, progress)


@dataclass
class Plan:
    """A comparison under way. Its methods do one kind of work each, and leave records."""

    entrants: tuple[Entrant, ...]
    task: Task
    budget: Budget
    asked: str
    size: int | None
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    out: Path
    config: TrainConfig
    ledger: Ledger
    tell: Callable[[str], None] | None
    progress: bool
    used: list[Record] = field(default_factory=list)

    # -- the work -------------------------------------------------------------------------------------------

    def measure_costs(self) -> None:
        """Operations, latency, throughput and memory of every model, one after another on a quiet machine.

        Raises `AnyformerError` where a model does not fit the task, or a step of it the budget.
        """
        for entrant in self.entrants:
            found = self.once("cost", entrant, {"batch": self.config.batch_size}, lambda e=entrant: self.cost(e))
            if found is not None and self.budget.unit == "flop":
                sweep.check_steps(self.budget.amount / found["step_flop"], self.rates, entrant.name, self.budget)

    def cost(self, entrant: Entrant) -> Record:
        try:
            return measure.cost(entrant, self.task, self.config)
        except AnyformerError as error:
            raise Refused(f"{entrant.name} on the task {self.task.name!r}: {error}") from error

    def choose_rate(self, entrant: Entrant) -> tuple[float, Budget] | None:
        """The rate that the sweep ends with, and what is left of the budget; None where every rate failed."""
        if self.failed(entrant):
            return None
        candidates, spent = list(self.rates), 0.0
        for rung in sweep.rungs(len(self.rates)):
            part = sweep.portion(self.budget, rung.share)
            losses = {}
            for rate in candidates:
                record = self.sweep_run(entrant, rate, part)
                if record is None:
                    return None
                spent += self.spent(record)
                losses[rate] = math.inf if record["loss"] is None else record["loss"]
            candidates = sorted(losses, key=lambda r: losses[r])[: math.ceil(len(candidates) / 2)]
            if losses[candidates[0]] == math.inf:
                self.fail("sweep", entrant, f"training diverged at every rate from {self.rates[0]:g} to {self.rates[-1]:g}")
                return None
        try:
            return candidates[0], sweep.remainder(self.budget, spent, entrant.name)
        except BudgetError as error:
            self.fail("sweep", entrant, str(error))
            return None

    def sweep_run(self, entrant: Entrant, rate: float, part: Budget) -> Record | None:
        """One short run at a rate, measured on the validation part; a loss of None where it diverged."""
        config = dataclasses.replace(self.config, budget=str(part), learning_rate=rate, evaluations=1, seed=self.seeds[0])

        def run() -> Record:
            try:
                result = train(entrant.spec, self.task, config, progress=self.progress)
            except Diverged:
                return {"rate": rate, "budget": str(part), "loss": None, "steps": 0, "seconds": 0.0, "step_flop": 0}
            return {
                "rate": rate,
                "budget": str(part),
                "loss": finite(result.metrics["loss"]),
                "metric": finite(result.metrics[self.task.metric]),
                "steps": result.steps,
                "seconds": result.seconds,
                "step_flop": result.step_flop,
            }

        return self.once("sweep", entrant, {"config": config.binding()}, run)

    def spent(self, record: Record) -> float:
        """What a run of the sweep took of the budget, in the budget's unit; one that diverged took its part."""
        if record["loss"] is None:
            return parse_budget(record["budget"]).amount
        in_flop = record["steps"] * record["step_flop"]
        return {"seconds": record["seconds"], "steps": record["steps"], "flop": in_flop}[self.budget.unit]

    def train_one(self, entrant: Entrant, seed: int, rate: float, budget: Budget) -> Record | None:
        """One full run, from its last checkpoint if it was interrupted, measured on the test part."""
        config = dataclasses.replace(self.config, budget=exactly(budget), learning_rate=rate, seed=seed)
        facts = {"config": config.binding(), "evaluations": config.evaluations}
        folder = self.out / "runs" / f"{plain(entrant.name)}-seed{seed}-{self.key('run', entrant, facts)[:6]}"

        def run() -> Record:
            result = train(entrant.spec, self.task, config, out=folder, resume=True, progress=self.progress)
            found = measure.quality(result.model, self.task, config, continued=seed == self.seeds[0])
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # finished: the weights stay
            return {"seed": seed, "rate": rate, "folder": str(folder.relative_to(self.out)), **outcome(result), **found}

        return self.once("run", entrant, facts, run)

    def finish(self) -> Comparison:
        """Sum up, and write the report."""
        from anyformer.lab.report import write_report

        parameters = {entrant.name: entrant.parameters for entrant in self.entrants}
        comparison = Comparison(
            rows=make_rows(parameters, self.used, self.task.metric, self.task.higher_is_better),
            task=self.task.facts(),
            metric=self.task.metric,
            higher_is_better=self.task.higher_is_better,
            budget=self.asked,
            size=self.size,
            rates=self.rates,
            seeds=self.seeds,
            config={k: v for k, v in self.config.to_dict().items() if k not in ("budget", "learning_rate", "seed")},
            models={entrant.name: entrant.spec.to_dict() for entrant in self.entrants},
            records=tuple(self.used),
            out=self.out,
            report=self.out / "report.html",
            fingerprint=fingerprint(),
        )
        write_report(comparison, self.task, comparison.report)
        write_atomically(self.out / "comparison.json", json.dumps(comparison.to_dict(), indent=1) + "\n")
        return comparison

    # -- the book-keeping -----------------------------------------------------------------------------------

    def key(self, kind: str, entrant: Entrant, facts: Record) -> str:
        """What makes a record the one that is asked for: all on which its numbers depend but the code."""
        here = {k: v for k, v in machine().items() if k != "memory_gib"}
        spec = entrant.spec.to_dict()
        return key(kind=kind, spec=spec, task=self.task.facts(), machine=here, versions=versions(), **facts)

    def once(self, kind: str, entrant: Entrant, facts: Record, work: Callable[[], Record]) -> Record | None:
        """The record of a piece of work, done now unless it has been; None where it fails, which is a record too."""
        name = self.key(kind, entrant, facts)
        record = self.ledger.find(name)
        if record is None:
            head = {"key": name, "kind": kind, "model": entrant.name}
            try:
                record = {**head, **work(), "fingerprint": fingerprint()}
            except Refused as error:
                raise AnyformerError(str(error)) from error
            except Exception as error:  # whatever it is, it is this model's result
                sentence = re.sub(r"\s+", " ", str(error)).strip()
                kind_of = "" if isinstance(error, AnyformerError) else f"{type(error).__name__}: "
                return self.fail(kind, entrant, (kind_of + sentence)[:500], name)
            self.ledger.add(record)
        record = {**record, "model": entrant.name}  # it may have been done under another name
        self.used.append(record)
        self.say(record)
        return record

    def fail(self, kind: str, entrant: Entrant, sentence: str, name: str | None = None) -> None:
        """Keep a failure as a record."""
        head = {"key": name or key(kind=kind, model=entrant.name, error=sentence), "kind": kind, "model": entrant.name}
        self.used.append(self.ledger.add({**head, "error": sentence, "fingerprint": fingerprint()}))
        self.say(self.used[-1])

    def failed(self, entrant: Entrant) -> bool:
        return any(r["model"] == entrant.name and "error" in r for r in self.used)

    def say(self, record: Record) -> None:
        """Tell whoever listens what was just finished."""
        if self.tell is None:
            return
        sweeps = sum(rung.candidates for rung in sweep.rungs(len(self.rates)))
        total = len(self.entrants) * (1 + sweeps + len(self.seeds))
        words = f"failed: {record.get('error')}" if "error" in record else describe(record, self.task.metric)
        self.tell(f"[{len(self.used)}/{total}] {record['model']}: {words}")


class Refused(Exception):
    """A mistake in what was asked for that shows only when a model runs; ends the comparison before it trains."""


def outcome(result: TrainResult) -> Record:
    """What a record keeps of a run."""
    return {
        "valid": {k: v for k, v in result.metrics.items() if isinstance(v, int | float)},
        "steps": result.steps,
        "samples": result.samples,
        "seconds": result.seconds,
        "step_flop": result.step_flop,
        "curve": thin([line for line in result.history if "loss" in line]),
        "measured": [line for line in result.history if "valid" in line],
        "config": result.config.to_dict(),
    }


def thin(lines: list[Record]) -> list[Record]:
    """At most `CURVE` points of a curve: means over stretches of equal length, where there are more."""
    width = max(1, math.ceil(len(lines) / CURVE))
    stretches = [lines[i : i + width] for i in range(0, len(lines), width)]
    return [
        {"step": s[-1]["step"], "seconds": s[-1]["seconds"], "loss": sum(p["loss"] for p in s) / len(s)} for s in stretches
    ]


def describe(record: Record, metric: str) -> str:
    """A finished piece of work in a line."""
    if record["kind"] == "cost":
        return f"{1e3 * record['latency']:.2f} ms per input, {record['operations']:,} multiply-adds"
    if record["kind"] == "sweep":
        loss = "diverged" if record["loss"] is None else f"validation loss {record['loss']:.4g}"
        return f"rate {record['rate']:g}: {loss} after {record['steps']} steps"
    return f"seed {record['seed']}: test {metric} {record['test'][metric]:.4g} ({record['steps']} steps, {record['seconds']:.1f} s)"


def exactly(budget: Budget) -> str:
    """A budget as text, without rounding."""
    return f"{budget.amount!r}{'s' if budget.unit == 'seconds' else budget.unit}"


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plain(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.")[:60]
