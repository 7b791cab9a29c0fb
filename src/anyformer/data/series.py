"""Time series: a generated set with several seasons, tables of numbers over time as CSV, and windows cut from both."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from anyformer.core.errors import DataError
from anyformer.data.tables import read_cells

Missing = Literal["raise", "fill"]

TIME_NAMES = ("time", "date", "datetime", "timestamp", "ds", "t")
"""What people call the column of times."""


@dataclass(frozen=True)
class Series:
    """Several series over the same times.

    Attributes:
        values: `(n, channels)` float32, evenly spaced in time.
        names: of the channels.
        source: where they come from.
        step: seconds between two values; None where times are plain numbers.
        filled: how many values were missing and filled in.
    """

    values: Float[np.ndarray, "n channels"]
    names: tuple[str, ...]
    source: str
    step: float | None = None
    filled: int = 0


def seasonal_series(
    length: int = 6000, channels: int = 6, seasons: tuple[int, ...] = (24, 168), seed: int = 0
) -> Series:
    """Generated hourly series: a daily and a weekly season whose strength drifts, a wandering level, and noise.

    Each series is level(t) + sum over seasons of amplitude(t) shape(t mod season) + noise: shapes are sums of three
    harmonics drawn once, level is an autoregression, amplitudes drift slowly, noise is autoregressive with heavy tails.
    """
    draw = np.random.default_rng(seed)
    times = np.arange(length)
    values = np.zeros((length, channels))
    for channel in range(channels):
        total = _autoregression(draw, length, 0.999, 0.02)
        for rank, season in enumerate(seasons):
            weights = draw.normal(size=3) / np.arange(1, 4)
            phases = draw.uniform(0, 2 * np.pi, 3)
            angles = 2 * np.pi * np.outer(times, np.arange(1, 4)) / season + phases
            shape = (weights * np.sin(angles)).sum(1)
            shape /= max(float(shape.std()), 1e-9)
            strength = np.exp(_autoregression(draw, length, 0.999, 0.01))
            total = total + strength * shape * (1.0 if rank == 0 else 0.6)
        noise = draw.standard_t(5, length) * 0.15
        values[:, channel] = total + noise
    names = tuple(f"series {i + 1}" for i in range(channels))
    return Series(values.astype(np.float32), names, f"generated, seed {seed}", step=3600.0)


def _autoregression(draw: np.random.Generator, length: int, keep: float, deviation: float) -> Float[np.ndarray, "n"]:
    """x_t = keep x_(t-1) + noise, from 0."""
    noise = draw.normal(size=length) * deviation
    found = np.empty(length)
    value = 0.0
    for i, shock in enumerate(noise):
        value = keep * value + shock
        found[i] = value
    return found


def read_series(path: Path, *, time: str = "", missing: Missing = "raise") -> Series:
    """A CSV table: one row per time, one column per series, and a column of times.

    Args:
        path: of the file; its first row names the columns.
        time: name of the column of times (ISO 8601, or numbers); by default the first called time, date, ..., and a
            file without one counts its rows.
        missing: what to do about an empty cell, and about times that are left out: "raise" names them, "fill" takes
            the line between the neighbours.

    Raises:
        DataError: no such file, no numbers, cells or times missing, times that do not rise or are uneven; with the row.
    """
    head, rows = read_cells(path, "series", "time", least=2)
    column = _time_column(head, time, path)
    names = [name for i, name in enumerate(head) if i != column]
    if not names:
        raise DataError(f"{path} has a column of times and no series beside it.")
    cells = [[cell for i, cell in enumerate(row) if i != column] for row in rows]
    values = np.array(
        [[_number(cell, path, r, names[c]) for c, cell in enumerate(row)] for r, row in enumerate(cells, 2)]
    )
    empty = np.isnan(values)
    if empty.any() and missing == "raise":
        row, which = np.argwhere(empty)[0]
        raise DataError(
            f"{path}, row {row + 2}, column {names[which]!r}: the value is missing ({int(empty.sum())} in all); fill "
            "them in the file, or give missing='fill' for the line between the neighbours."
        )
    step = None
    if column is not None:
        texts = [row[column] for row in rows]
        times, dated = _times(texts, path)
        values, step = _even(values, times, texts, missing, path)
        step = step if dated else None
    filled = int(np.isnan(values).sum())
    for i, name in enumerate(names):
        known = ~np.isnan(values[:, i])
        if not known.any():
            raise DataError(f"{path}, column {name!r} has no number at all.")
        places = np.arange(len(values))
        values[:, i] = np.interp(places, places[known], values[known, i])
    return Series(values.astype(np.float32), tuple(names), str(path), step, filled)


def _time_column(head: list[str], time: str, path: Path) -> int | None:
    if time:
        if time not in head:
            raise DataError(f"{path} has no column {time!r}; its columns are {', '.join(head)}.")
        return head.index(time)
    return next((i for i, name in enumerate(head) if name.lower() in TIME_NAMES), None)


def _number(cell: str, path: Path, row: int, column: str) -> float:
    text = cell.strip()
    if text.lower() in ("", "na", "nan", "null", "none"):
        return float("nan")
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{path}, row {row}, column {column!r}: {cell!r} is no number.") from error
    if np.isinf(value):
        raise DataError(f"{path}, row {row}, column {column!r}: {cell!r} is infinite.")
    return value


def _times(texts: list[str], path: Path) -> tuple[Float[np.ndarray, "n"], bool]:
    """Times in seconds, or plain numbers, and whether they are dates."""
    found, dated = [], False
    for row, text in enumerate(texts, 2):
        try:
            found.append(float(text))
            continue
        except ValueError:
            dated = True
        try:
            when = datetime.datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise DataError(
                f"{path}, row {row}: {text!r} is no time; write times as 2024-05-01 13:00 (ISO 8601) or as numbers."
            ) from error
        found.append(when.replace(tzinfo=when.tzinfo or datetime.UTC).timestamp())
    return np.array(found), dated


def _even(
    values: Float[np.ndarray, "n c"], times: Float[np.ndarray, "n"], texts: list[str], missing: Missing, path: Path
) -> tuple[Float[np.ndarray, "m c"], float]:
    """Values at evenly spaced times, nan where a time was left out, and the step; raises where times do not fit."""
    steps = np.diff(times)
    if (steps <= 0).any() or np.isnan(times).any():
        row = int(np.argmax(~(steps > 0)))
        raise DataError(
            f"{path}, row {row + 3}: the time {texts[row + 1]} does not come after {texts[row]} in the row before; "
            "sort the rows by time and keep one row for each."
        )
    step = float(np.median(steps))
    places = np.concatenate([[0.0], np.cumsum(steps)]) / step
    whole = places.round().astype(int)
    # Months differ in length: rows one after the other a month apart are even enough.
    if (np.diff(whole) == 1).all() and np.abs(steps / step - 1).max() < 0.15:
        return values, step
    if np.abs(places - whole).max() > 0.05 or (np.diff(whole) < 1).any():
        row = int(np.argmax(np.abs(steps / step - 1)))
        raise DataError(
            f"{path}: times are uneven, {steps[row]:g} between rows {row + 2} and {row + 3} where most are {step:g} "
            "apart; bring the series to even times first."
        )
    if missing == "raise":
        row = int(np.argmax(np.diff(whole) > 1))
        raise DataError(
            f"{path}: {int(whole[-1] + 1 - len(whole))} times are left out, the first after {texts[row]} (row "
            f"{row + 2}); add rows for them, or give missing='fill' for the line between the neighbours."
        )
    spaced = np.full((int(whole[-1]) + 1, values.shape[1]), np.nan)
    spaced[whole] = values
    return spaced, step
