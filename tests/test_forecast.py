"""Forecasting: parts that follow each other, metrics, baselines, tables and what is wrong with them, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.data.pictures import PALETTE, lines
from anyformer.data.series import Series, read_series, seasonal_series
from anyformer.tasks import create_task
from anyformer.tasks.forecast import Forecast
from descent import descend


def waves(length: int = 600) -> Series:
    """Two series that repeat themselves exactly after 12 values."""
    times = np.arange(length)
    values = np.stack([np.sin(2 * np.pi * times / 12), 5 + 3 * np.cos(2 * np.pi * times / 12)], 1)
    return Series(values.astype(np.float32), ("a", "b"), "waves")


class SeasonalNaive(nn.Module):
    def forward(self, past):
        return past[:, -12:].repeat(1, 2, 1)[:, :8]


def test_parts_follow_each_other_and_nothing_asked_for_stands_in_two():
    task = Forecast(waves(), context=24, horizon=8)
    asked = {}
    for split in ("train", "valid", "test"):
        starts = task.starts[split]
        asked[split] = {int(s) + i for s in starts for i in range(8)}
        batch = task.sample(split, torch.arange(task.size(split)))
        first = int(starts[0])
        torch.testing.assert_close(batch["past"][0], task.values[first - 24 : first])
        torch.testing.assert_close(batch["future"][0], task.values[first : first + 8])
    assert max(asked["train"]) < min(asked["valid"]) and max(asked["valid"]) < min(asked["test"])


def test_the_season_is_found_and_a_perfect_model_has_no_error():
    task = Forecast(waves(), context=24, horizon=8)
    assert task.season == 12
    found = task.evaluate(SeasonalNaive(), "test")
    assert found["mae"] < 1e-5 and found["mse"] < 1e-9
    baseline = task.baseline("test")
    assert baseline.what.startswith("the value 12 steps before") and baseline.value < 1e-5


def test_metrics_by_hand():
    task = Forecast(seasonal_series(1000, 2), context=24, horizon=4, season=24)
    truth = torch.zeros(1, 4, 2)
    guess = torch.tensor([[[1.0, 0.0]] * 4])
    found = task.errors(guess, truth)
    assert found["mae"] == 0.5 and found["mse"] == 0.5
    assert found["mae_unit"] == pytest.approx(task.spread[0] / 2)
    known = task.values[: task.ends["train"]]
    assert found["mase"] == pytest.approx(0.5 / float((known[24:] - known[:-24]).abs().mean()))


def test_scaling_knows_the_training_part_alone():
    one = seasonal_series(1000, 2)
    changed = one.values.copy()
    changed[700:] *= 100
    task, other = (Forecast(Series(v, one.names, "x"), context=24, horizon=8) for v in (one.values, changed))
    assert np.array_equal(task.centre, other.centre) and np.array_equal(task.spread, other.spread)
    assert task.season == other.season


def test_the_default_task_trains_its_default_model():
    task = create_task("forecast")
    assert task.season in (24, 168)
    torch.manual_seed(0)
    model = create_model(task.default_model, **task.model_options())
    batch = task.sample("train", torch.arange(32))
    losses = descend(model, lambda: task.loss(model, batch), steps=8)
    assert losses[-1] < 0.7 * losses[0]
    pictures = task.pictures(model, n=2)
    assert len(pictures) == 2 and pictures[0].pixels.shape == (120, 320, 3)
    answer = task.predict(model, [task.series.values])[0]
    assert np.asarray(answer["values"]).shape == (24, 3)


def test_models_of_another_kind_are_refused():
    task = Forecast(waves(), context=24, horizon=8)
    with pytest.raises(FitError, match="gave"):
        task.loss(nn.Identity(), task.sample("train", torch.arange(2)))
    model = create_model("patchtst_micro")
    with pytest.raises(SizeError, match="192 past values"):
        model(torch.zeros(1, 100, 3))
    with pytest.raises(OptionError, match="1 to 192"):
        create_model("patchtst_micro", patch=300)
    with pytest.raises(DataError, match="windows of 192"):
        Forecast(waves(200))
    with pytest.raises(DataError, match="b never changes"):
        Forecast(Series(waves().values * np.array([1, 0], dtype=np.float32), ("a", "b"), "x"), context=24, horizon=8)


def test_patchtst_moves_and_scales_with_its_series_and_keeps_channels_apart():
    torch.manual_seed(0)
    model = create_model("patchtst_micro").eval()
    past = torch.randn(2, 192, 3)
    with torch.no_grad():
        ahead = model(past)
        torch.testing.assert_close(model(5 * past + 7), 5 * ahead + 7, rtol=1e-3, atol=1e-3)
        changed = past.clone()
        changed[..., 1] = torch.randn(2, 192)
        torch.testing.assert_close(model(changed)[..., [0, 2]], ahead[..., [0, 2]], rtol=1e-4, atol=1e-5)


HOURS = "time,load,wind\n2024-01-01 00:00,1,4\n2024-01-01 01:00,2,5\n2024-01-01 02:00,{},6\n{}2024-01-01 04:00,5,8\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "series.csv"
    path.write_text(text)
    return path


def test_a_table_with_times(tmp_path: Path):
    series = read_series(table(tmp_path, HOURS.format(3, "2024-01-01 03:00,4,7\n")))
    assert series.names == ("load", "wind") and series.step == 3600 and series.filled == 0
    np.testing.assert_array_equal(series.values[:, 0], [1, 2, 3, 4, 5])


def test_missing_values_and_times_are_named_or_filled(tmp_path: Path):
    path = table(tmp_path, HOURS.format("", "2024-01-01 03:00,4,7\n"))
    with pytest.raises(DataError, match=r"row 4, column 'load': the value is missing \(1 in all\)"):
        read_series(path)
    assert read_series(path, missing="fill").values[2, 0] == 3
    path = table(tmp_path, HOURS.format(3, ""))
    with pytest.raises(DataError, match=r"1 times are left out, the first after 2024-01-01 02:00 \(row 4\)"):
        read_series(path)
    series = read_series(path, missing="fill")
    np.testing.assert_array_equal(series.values, [[1, 4], [2, 5], [3, 6], [4, 7], [5, 8]])
    assert series.filled == 2


def test_months_are_even_enough(tmp_path: Path):
    rows = "".join(f"2024-{m:02}-01,{m}\n" for m in range(1, 13))
    assert len(read_series(table(tmp_path, f"date,x\n{rows}")).values) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,x\n1,1\n3,2\n2,3\n", "row 4: the time 2 does not come after 3"),
        ("time,x\n1,1\n1,2\n2,3\n", "does not come after 1"),
        ("time,x\n0,1\n1,2\n2,3\n3.4,4\n4.4,5\n", "times are uneven, 1.4 between rows 4 and 5"),
        ("time,x\nnever,1\n1,2\n", "'never' is no time"),
        ("time,x\n1,one\n2,2\n", "row 2, column 'x': 'one' is no number"),
        ("time,x\n1,inf\n2,2\n", "is infinite"),
        ("time,x\n1,1\n2\n", "row 3: 1 cells where the first row names 2"),
        ("time\n1\n2\n", "no series beside it"),
        ("time,x\n1,1\n", "1 rows of values"),
    ],
)
def test_wrong_tables_are_named(text: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        read_series(table(tmp_path, text))


def test_a_table_is_a_task(tmp_path: Path):
    rows = "".join(f"{i},{v[0]},{v[1]}\n" for i, v in enumerate(waves().values))
    path = table(tmp_path, f"t,a,b\n{rows}")
    task = create_task(f"series:{path}", context=24, horizon=8)
    assert task.season == 12 and task.facts()["times"] == 600
    with pytest.raises(DataError, match="no column 'when'"):
        read_series(path, time="when")
    with pytest.raises(DataError, match="no such file"):
        read_series(tmp_path / "none.csv")
    answer = task.predict(SeasonalNaive(), [str(path)])[0]
    np.testing.assert_allclose(answer["values"], waves(608).values[600:], atol=1e-3)


def test_lines_are_drawn_in_their_frame():
    pixels = lines([(np.array([0.0, 1.0]), np.array([0.0, 0.0]), 5), (np.array([0.0, 1.0]), np.array([1.0, 1.0]), 1)])
    assert (pixels[115, 160] == PALETTE[5]).all() and (pixels[4, 160] == PALETTE[1]).all()
    assert (pixels[60, 160] == 255).all()
