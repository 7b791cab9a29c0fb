"""A comparison under way: one kind of work per method, each piece of it a line in the ledger.

What is a line already is not done again, so that an interrupted comparison goes on where it stopped; what fails is a
line too, and the other models go on.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anyformer.core.errors import AnyformerError, BudgetError
from anyformer.lab.budget import Budget, parse_budget
from anyformer.lab.compare import measure, sweep
from anyformer.lab.compare.entrants import Entrant
from anyformer.lab.compare.ledger import Ledger, Record, key
from anyformer.lab.train import TrainConfig
from anyformer.lab.train.fingerprint import fingerprint, machine, versions
from anyformer.lab.train.loop import TrainResult, train
from anyformer.lab.train.stepper import Diverged
from anyformer.tasks.task import Task

CURVE = 150
"""Points of a learning curve that a record keeps."""


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
            asked = {"batch": self.config.batch_size, "optimizer": self.config.optimizer}
            found = self.once("cost", entrant, asked, lambda e=entrant: self.cost(e))
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
                self.fail("sweep", entrant, f"training diverged at every rate: {', '.join(f'{r:g}' for r in losses)}")
                return None
        try:
            return candidates[0], sweep.remainder(self.budget, spent, entrant.name)
        except BudgetError as error:
            self.fail("sweep", entrant, str(error))
            return None

    def sweep_run(self, entrant: Entrant, rate: float, part: Budget) -> Record | None:
        """One short run at a rate, measured on the validation part; a loss of None where it diverged."""
        config = dataclasses.replace(
            self.config, budget=exactly(part), learning_rate=rate, evaluations=1, seed=self.seeds[0]
        )

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
        {"step": s[-1]["step"], "seconds": s[-1]["seconds"], "loss": sum(p["loss"] for p in s) / len(s)}
        for s in stretches
    ]


def describe(record: Record, metric: str) -> str:
    """A finished piece of work in a line."""
    if record["kind"] == "cost":
        return f"{1e3 * record['latency']:.2f} ms per input, {record['operations']:,} multiply-adds"
    if record["kind"] == "sweep":
        loss = "diverged" if record["loss"] is None else f"validation loss {record['loss']:.4g}"
        return f"rate {record['rate']:g}: {loss} after {record['steps']} steps"
    spent = f"{record['steps']} steps, {record['seconds']:.1f} s"
    return f"seed {record['seed']}: test {metric} {record['test'][metric]:.4g} ({spent})"


def exactly(budget: Budget) -> str:
    """A budget as text, without rounding."""
    return f"{budget.amount!r}{'s' if budget.unit == 'seconds' else budget.unit}"


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plain(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.")[:60]
