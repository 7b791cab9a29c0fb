"""Forecasting: the values that follow, from those that went before; a generated set, and your tables of series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.pictures import Picture, lines
from anyformer.data.series import Series, read_series, seasonal_series
from anyformer.data.splits import SPLITS
from anyformer.tasks.task import Baseline, Batch, Task, measuring

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
"""Shares of the time that the parts take, one after the other, as for the ETT sets (Zhou et al. 2020)."""


class Forecast(Task):
    """The next `horizon` values of several series from the last `context`. Loss: squared error of scaled values.

    Series are scaled by mean and deviation of the training part. Parts follow each other in time, and what is asked for
    in one never stands in another. Metric: mean absolute error of scaled values; beside it "mse" of scaled values,
    "mae_unit" in the series' own unit, and "mase", the error as a share of the seasonal naive one's in training
    (Hyndman and Koehler 2006).

    Args:
        series: what is forecast.
        context, horizon: values given, and asked for.
        season: values after which the series come back, for the seasonal naive baseline and MASE; 0 for the one, up to
            the context, that repeats itself best in training.
        stride: values from one training window to the next.
    """

    name = "forecast"
    metric = "mae"
    higher_is_better = False
    default_model = "patchtst_micro"

    def __init__(self, series: Series, *, context: int = 192, horizon: int = 24, season: int = 0, stride: int = 1):
        if min(context, horizon, stride) < 1 or not 0 <= season <= context:
            raise OptionError(
                "context, horizon and stride are 1 or more, season 0 to context; given "
                f"context={context}, horizon={horizon}, stride={stride}, season={season}."
            )
        self.series, self.context, self.horizon = series, context, horizon
        total = len(series.values)
        test = int(total * SHARES["test"])
        valid = int(total * SHARES["valid"])
        self.ends = {"train": total - test - valid, "valid": total - test, "test": total}
        if self.ends["train"] < context + horizon or min(test, valid) < horizon:
            least = max(-(-10 * (context + horizon) // 7), 10 * horizon)
            raise DataError(
                f"{series.source} has {total} times; windows of {context} + {horizon} need {least} or more: give a "
                "longer table, or a smaller context or horizon."
            )
        known = series.values[: self.ends["train"]].astype(np.float64)
        self.centre, self.spread = known.mean(0), known.std(0)
        flat = np.flatnonzero(self.spread < 1e-9)
        if len(flat):
            names = ", ".join(series.names[i] for i in flat)
            raise DataError(f"{series.source}: {names} never changes in the training part: leave it out.")
        self.values = torch.from_numpy(((series.values - self.centre) / self.spread).astype(np.float32))
        self.season = season or self._season()
        # The first value asked for in each part; the context may reach back into the part before.
        first = {"train": context, "valid": self.ends["train"], "test": self.ends["valid"]}
        steps = {"train": stride, "valid": max(1, horizon // 4), "test": max(1, horizon // 4)}
        self.starts = {s: torch.arange(first[s], self.ends[s] - horizon + 1, steps[s]) for s in SPLITS}
        naive = self.values[self.season : self.ends["train"]] - self.values[: self.ends["train"] - self.season]
        self.naive = float(naive.abs().mean())

    def _season(self) -> int:
        """The lag, up to the context, at which the training part differs least from itself."""
        known = self.values[: self.ends["train"]]
        errors = [float((known[lag:] - known[:-lag]).abs().mean()) for lag in range(1, self.context + 1)]
        # Multiples of a season repeat as well: the shortest lag that is nearly the best.
        return 1 + int(np.argmax(np.array(errors) <= 1.01 * min(errors) + 1e-4))

    def model_options(self) -> dict[str, Any]:
        return {"context": self.context, "horizon": self.horizon, "in_channels": len(self.series.names)}

    def size(self, split: str) -> int:
        return len(self.starts[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """Scaled "past" `(b, context, channels)` and "future" `(b, horizon, channels)`."""
        starts = self.starts[self.check_split(split)][indices, None]
        return {
            "past": self.values[starts + torch.arange(-self.context, 0)],
            "future": self.values[starts + torch.arange(self.horizon)],
        }

    def forecasts(self, model: nn.Module, past: Tensor) -> Tensor:
        """What the model says, scaled, float32. Raises `FitError` for a model that forecasts nothing of this shape."""
        found = model(past)
        wanted = (len(past), self.horizon, past.shape[-1])
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise FitError(
                f"the task {self.name!r} takes models from (batch, context, channels) to (batch, horizon, channels); "
                f"this one gave {given} for {wanted}: take one such as {self.default_model}."
            )
        return found.float()

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return F.mse_loss(self.forecasts(model, batch["past"]), batch["future"])

    def count(self, batch: Batch) -> int:
        return len(batch["future"])

    def errors(self, guesses: Tensor, truth: Tensor) -> dict[str, float]:
        """The metrics of scaled forecasts."""
        apart = (guesses - truth).abs()
        unit = torch.from_numpy(self.spread.astype(np.float32))
        mae = float(apart.mean())
        return {
            "mae": mae,
            "mse": float(apart.square().mean()),
            "mae_unit": float((apart * unit).mean()),
            "mase": mae / self.naive,
        }

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """Mean absolute error, "mse", "mae_unit", "mase", and the mean loss."""
        with measuring(model) as device:
            pairs = [
                (self.forecasts(model, b["past"]).cpu(), b["future"].cpu())
                for _, b in self.batches(split, batch_size, device)
            ]
        found = self.errors(*(torch.cat(part) for part in zip(*pairs, strict=True)))
        return {**found, "loss": found["mse"]}

    def naives(self, past: Tensor) -> dict[str, Tensor]:
        """The trivial forecasts: the last value, and what stood there a season ago."""
        steps = torch.arange(self.horizon) % self.season
        return {
            "the last value": past[:, -1:].expand(-1, self.horizon, -1),
            f"the value {self.season} steps before (seasonal naive)": past[:, self.context - self.season + steps],
        }

    def baseline(self, split: str = "valid") -> Baseline:
        batch = self.sample(split, torch.arange(self.size(split)))
        scores = {what: self.errors(x, batch["future"])["mae"] for what, x in self.naives(batch["past"]).items()}
        best, *others = sorted(scores, key=lambda what: scores[what])
        also = "".join(f"; {what} has {scores[what]:.4g}" for what in others)
        return Baseline(f"{best}{also}", scores[best], 0.2 * scores[best])

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """The values that follow tables (paths of CSV files with the same columns) or arrays `(n, channels)`."""
        found = []
        for given in inputs:
            values = read_series(Path(given)).values if isinstance(given, str | Path) else np.asarray(given)
            if values.ndim != 2 or values.shape[1] != len(self.series.names) or len(values) < self.context:
                raise DataError(
                    f"the task {self.name!r} takes {self.context} or more times of {len(self.series.names)} series "
                    f"({', '.join(self.series.names)}); given {values.shape}."
                )
            past = torch.from_numpy(((values[-self.context :] - self.centre) / self.spread).astype(np.float32))
            with measuring(model) as device:
                ahead = self.forecasts(model, past[None].to(device))[0].cpu().numpy() * self.spread + self.centre
            text = "; ".join(
                f"{n}: {', '.join(f'{v:.4g}' for v in row)}" for n, row in zip(self.series.names, ahead.T, strict=True)
            )
            path = str(given) if isinstance(given, str | Path) else None
            found.append({"input": path, "forecast": text, "values": ahead.tolist()})
        return found

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """A drawing of each window's first series, the context in black and the future in colour; the future."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        found = []
        for past, future in zip(batch["past"][..., 0], batch["future"][..., 0], strict=True):
            truth = ", ".join(f"{v:.2f}" for v in future.tolist())
            found.append({"input": self.draw(past, future), "truth": truth})
        return found

    def draw(self, past: Tensor, future: Tensor, guess: Tensor | None = None) -> np.ndarray:
        """The end of one series' context in black, its future in blue, and the forecast in orange."""
        shown = past[-4 * self.horizon :].numpy()
        at = np.arange(len(shown)) - len(shown)
        ahead = np.arange(-1, self.horizon)
        ends = [np.concatenate([shown[-1:], x.numpy()]) for x in (future, guess) if x is not None]
        return lines([(at, shown, 0), *((ahead, y, c) for y, c in zip(ends, (5, 1), strict=False))])

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """Forecasts of windows spread over the part, one series each, in turn."""
        rows = torch.linspace(0, self.size(split) - 1, n).long()
        batch = self.sample(split, rows)
        with measuring(model) as device:
            guesses = self.forecasts(model, batch["past"].to(device)).cpu()
        found = []
        for i in range(n):
            channel = i % len(self.series.names)
            past, future, guess = batch["past"][i, :, channel], batch["future"][i, :, channel], guesses[i, :, channel]
            error = float((future - guess).abs().mean())
            caption = f"{self.series.names[channel]}: truth blue, forecast orange, mean absolute error {error:.3f}"
            found.append(Picture(caption, self.draw(past, future, guess)))
        return found

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "source": self.series.source,
            "series": list(self.series.names),
            "times": len(self.series.values),
            "filled": self.series.filled,
            "sizes": {split: self.size(split) for split in SPLITS},
            "context": self.context,
            "horizon": self.horizon,
            "season": self.season,
        }


class Seasonal(Forecast):
    """Generated hourly series with a day, a week, drifting strengths and noise: eight days are given, one is asked for.

    Args:
        length, channels: times, and series.
        context, horizon: values given, and asked for.
        seed: of the generation.
    """

    name = "forecast"

    def __init__(self, length: int = 5000, channels: int = 3, context: int = 192, horizon: int = 24, seed: int = 0):
        if length < 1 or channels < 1:
            raise OptionError(f"length and channels are 1 or more; given {length} and {channels}.")
        super().__init__(seasonal_series(length, channels, seed=seed), context=context, horizon=horizon)


class Tables(Forecast):
    """Your series: a CSV file with a row for every time, a column of times and a column for each series.

    Args:
        path: of the file.
        context, horizon: values given, and asked for.
        season: values after which the series come back; 0 finds it.
        time: name of the column of times; by default the first that is called time, date, timestamp, ...
        missing: what to do about missing values and times, "raise" or "fill".
        stride: values from one training window to the next.
    """

    name = "series"

    def __init__(
        self,
        path: str | Path,
        context: int = 192,
        horizon: int = 24,
        season: int = 0,
        time: str = "",
        missing: Literal["raise", "fill"] = "raise",
        stride: int = 1,
    ):
        if missing not in ("raise", "fill"):
            raise OptionError(f"missing is raise or fill; given {missing!r}.")
        series = read_series(Path(path), time=time, missing=missing)
        super().__init__(series, context=context, horizon=horizon, season=season, stride=stride)


TASKS = {"forecast": Seasonal, "series": Tables}
