"""The main job: which of these models is best on this task, for this budget?

Read `compare` first: check, measure costs, choose rates, train, sum up.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyformer.core.errors import OptionError
from anyformer.lab.budget import Budget, parse_budget
from anyformer.lab.compare import sweep
from anyformer.lab.compare.entrants import Models, entrants, parse_size
from anyformer.lab.compare.ledger import Ledger, Record
from anyformer.lab.compare.plan import Plan
from anyformer.lab.compare.summary import Row, make_rows
from anyformer.lab.train import TrainConfig
from anyformer.lab.train.checkpoint import write_atomically
from anyformer.lab.train.fingerprint import fingerprint
from anyformer.tasks import create_task
from anyformer.tasks.task import Task


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
        models: names, Specs, "swin_micro+mixer=pooling" (the same with a part swapped or an option set), paths of YAML
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
    chosen = [(entrant, plan.choose_rate(entrant)) for entrant in plan.entrants]
    for seed in plan.seeds:  # all models of a seed before the next one, so that a slow hour of the machine hits all
        for entrant, choice in chosen:
            if choice is not None:
                plan.train_one(entrant, seed, *choice)
    return sum_up(plan)


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
            f"batch_size is {config.batch_size}, but the training part has {task.size('train')} samples: "
            "use that or less."
        )
    if whole.unit == "epochs":
        whole = Budget(max(1, math.floor(whole.amount * (task.size("train") // config.batch_size))), "steps")
    if whole.unit == "steps":
        sweep.check_steps(whole.amount, rates, "every model", whole)
    ledger = Ledger(out / "records.jsonl")
    numbers = tuple(range(config.seed, config.seed + seeds))
    return Plan(found, task, whole, str(budget), parse_size(size), numbers, rates, out, config, ledger, tell, progress)


def sum_up(plan: Plan) -> Comparison:
    """Sum up, and write the report."""
    from anyformer.lab.report import write_report

    parameters = {entrant.name: entrant.parameters for entrant in plan.entrants}
    comparison = Comparison(
        rows=make_rows(parameters, plan.used, plan.task.metric, plan.task.higher_is_better),
        task=plan.task.facts(),
        metric=plan.task.metric,
        higher_is_better=plan.task.higher_is_better,
        budget=plan.asked,
        size=plan.size,
        rates=plan.rates,
        seeds=plan.seeds,
        config={k: v for k, v in plan.config.to_dict().items() if k not in ("budget", "learning_rate", "seed")},
        models={entrant.name: entrant.spec.to_dict() for entrant in plan.entrants},
        records=tuple(plan.used),
        out=plan.out,
        report=plan.out / "report.html",
        fingerprint=fingerprint(),
    )
    write_report(comparison, plan.task, comparison.report)
    write_atomically(plan.out / "comparison.json", json.dumps(comparison.to_dict(), indent=1) + "\n")
    return comparison
