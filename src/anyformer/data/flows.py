"""Network flows: tables of numeric and categorical fields, brought to numbers in [0, 1] and ids, and cut to windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from anyformer.core.errors import DataError
from anyformer.data.tables import read_cells

LABELS = ("label", "class", "attack", "outcome")
"""What people call the column that says what a flow is."""


@dataclass(frozen=True)
class Flows:
    """Flows in the order in which they came.

    Attributes:
        numbers: numeric fields by name, each `(n,)`.
        categories: categorical fields by name, each `(n,)` of strings.
        labels: what each flow is, as a string.
    """

    numbers: Mapping[str, Float[np.ndarray, "n"]]
    categories: Mapping[str, np.ndarray]
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: slice) -> Flows:
        """Some of them."""
        numbers = {name: column[rows] for name, column in self.numbers.items()}
        categories = {name: column[rows] for name, column in self.categories.items()}
        return Flows(numbers, categories, self.labels[rows])


@dataclass(frozen=True)
class FlowScaler:
    """What training flows say of each field: numbers' least value and range, categories' most frequent values.

    Manocchio et al. 2023, arXiv:2304.14746: a number v becomes log(1 + v - least) / log(1 + range), a category its rank
    among the `most` most frequent ones, from 1; 0 stands for all others. Numbers outside of what training saw are cut
    to [0, 1], as there is no logarithm of what lies far below.
    """

    least: Mapping[str, float]
    spread: Mapping[str, float]
    ranks: Mapping[str, Mapping[str, int]]

    @staticmethod
    def fit(flows: Flows, most: int = 32) -> FlowScaler:
        """Learn from training flows, and from nothing else."""
        least = {name: float(column.min()) for name, column in flows.numbers.items()}
        spread = {name: float(column.max()) - least[name] for name, column in flows.numbers.items()}
        ranks = {}
        for name, column in flows.categories.items():
            # Of equally frequent values the alphabetically first counts as more frequent.
            frequent = sorted(Counter(column.tolist()).items(), key=lambda item: (-item[1], item[0]))[:most]
            ranks[name] = {value: i for i, (value, _) in enumerate(frequent, 1)}
        return FlowScaler(least, spread, ranks)

    @property
    def levels(self) -> tuple[int, ...]:
        """Values of each categorical field, the others aside."""
        return tuple(len(ranks) for ranks in self.ranks.values())

    def numbers(self, flows: Flows) -> Float[np.ndarray, "n f"]:
        """Numeric fields in [0, 1]; one that never changed in training is 0."""
        found = np.zeros((len(flows), len(self.least)), dtype=np.float32)
        for i, (name, least) in enumerate(self.least.items()):
            if self.spread[name] > 0:
                above = np.clip(self._column(flows.numbers, name) - least, 0, self.spread[name])
                found[:, i] = np.log1p(above) / np.log1p(self.spread[name])
        return found

    def categories(self, flows: Flows) -> Int[np.ndarray, "n g"]:
        """Ids of categorical fields; 0 for values that training did not see, or not often."""
        found = np.zeros((len(flows), len(self.ranks)), dtype=np.int64)
        for i, (name, ranks) in enumerate(self.ranks.items()):
            found[:, i] = [ranks.get(value, 0) for value in self._column(flows.categories, name).tolist()]
        return found

    def _column(self, columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        if name not in columns:
            raise DataError(f"these flows have no field {name!r}, which training had; theirs are {', '.join(columns)}.")
        return columns[name]


def windows(count: int, window: int) -> Int[np.ndarray, "m w"]:
    """Numbers of the flows of every window of consecutive ones. Raises `DataError` where there are fewer flows."""
    if not 1 <= window <= count:
        raise DataError(f"a window of {window} flows takes as many; there are {count}: give more flows, or window=.")
    return np.arange(count - window + 1)[:, None] + np.arange(window)


def read_flows(path: Path, *, label: str = "", leave_out: Sequence[str] = ()) -> Flows:
    """A CSV table with a row for every flow, in the order of time, and a column that says what it is.

    Fields whose every value is a number are numeric, the others categorical; addresses and ports are better left out,
    as they tell a capture's machines from each other, not attacks.

    Args:
        path: of the file; its first row names the columns.
        label: name of the column of labels; by default the first called label, class, attack, ...
        leave_out: columns that are no fields.

    Raises:
        DataError: no such file or column, rows of another length, or numbers that are not finite; with the row.
    """
    head, rows = read_cells(path, "flows", "flow")
    chosen = label or next((name for name in head if name.lower() in LABELS), "")
    for name in (chosen, *leave_out):
        if name not in head:
            what = f"no column {name!r}" if name else f"no column of labels (such as {', '.join(LABELS)})"
            raise DataError(f"{path} has {what}; its columns are {', '.join(head)}: name it with label=.")
    columns = {name: [row[i].strip() for row in rows] for i, name in enumerate(head)}
    labels = columns.pop(chosen)
    numbers, categories = {}, {}
    for name, column in columns.items():
        if name in leave_out:
            continue
        try:
            values = np.array([float(cell) for cell in column])
        except ValueError:
            categories[name] = np.array(column)
            continue
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise DataError(f"{path}, row {wrong[0] + 2}, column {name!r}: {column[wrong[0]]!r} is no finite number.")
        numbers[name] = values
    return Flows(numbers, categories, labels)


def generated_flows(count: int, seed: int = 0) -> Flows:
    """Flows of a small network, a tenth of them attacks: scans, floods, and guesses of passwords that come in a row.

    Benign flows have protocols, services and long-tailed sizes and durations that go together. A scan touches many
    services with tiny flows; a flood sends short flows of one size; a guess looks like any other short login, and only
    that logins of one size came before it tells. Attacks come in runs among benign flows.
    """
    draw = np.random.default_rng(seed)
    services = np.array(["web", "mail", "name", "files", "login"])
    usual = {"web": (7.5, 0.5), "mail": (8.5, 1.0), "name": (4.5, -3.0), "files": (11.0, 2.0), "login": (6.0, 0.0)}
    kinds = np.zeros(count, dtype=int)  # 0 benign, 1 scan, 2 flood, 3 guesses
    at = 0
    while at < count:
        at += int(draw.integers(60, 180))
        run = int(draw.integers(8, 18))
        kinds[at : at + run] = np.where(draw.random(len(kinds[at : at + run])) < 0.85, draw.integers(1, 4), 0)
        at += run
    service = draw.choice(services, count, p=(0.45, 0.1, 0.25, 0.05, 0.15))
    service = np.where(kinds == 1, draw.choice(services, count), service)
    service = np.where(kinds == 2, "web", np.where(kinds == 3, "login", service))
    size, time = (np.array([usual[s][i] for s in service]) for i in (0, 1))
    sent = np.exp(size + draw.normal(0, 1.0, count))
    spent = np.exp(time + draw.normal(0, 1.0, count))
    tiny, flood, guess = kinds == 1, kinds == 2, kinds == 3
    sent = np.where(tiny, np.exp(draw.normal(4.2, 0.4, count)), sent)
    spent = np.where(tiny, np.exp(draw.normal(-3, 0.5, count)), spent)
    sent = np.where(flood, np.exp(draw.normal(6.5, 0.2, count)), sent)
    sent = np.where(guess, np.exp(draw.normal(6.0, 0.1, count)), sent)
    back = sent * np.exp(draw.normal(1.0, 0.8, count)) * np.where(tiny | flood, 0.1, 1.0)
    packets = np.maximum(1, (sent + back) // 600 + draw.poisson(2, count))
    protocol = np.where(service == "name", "udp", "tcp")
    flags = np.where(tiny, "rejected", np.where(draw.random(count) < 0.05, "rejected", "finished"))
    numbers = {"bytes sent": sent.round(), "bytes back": back.round(), "packets": packets, "seconds": spent}
    categories = {"protocol": protocol, "service": service, "flag": np.where(protocol == "udp", "none", flags)}
    return Flows(numbers, categories, ["attack" if kind else "benign" for kind in kinds])
