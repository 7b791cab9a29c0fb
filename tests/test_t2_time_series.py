"""t2: the map that explains a logit, order, extra features, light curves and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.data.light_curves import LightCurve, bins, interpolate

JOINS = ("channels", "tokens", "pooled")


@pytest.mark.parametrize("join", JOINS)
def test_the_mean_of_the_map_and_the_rest_is_the_logit(join: str):
    torch.manual_seed(0)
    model = create_model("t2_micro", extra=2, join=join).eval()
    given = model.example_inputs(size=40, batch=3)
    torch.nn.init.normal_(model.head.bias)
    with torch.no_grad():
        shares, rest = model.activation_map(*given)
        torch.testing.assert_close(shares.mean(1) + rest, model(*given), rtol=1e-6, atol=1e-6)
    assert shares.shape == (3, 42 if join == "tokens" else 40, 3)


def test_without_positions_the_order_of_times_does_not_matter():
    torch.manual_seed(0)
    bare, placed = create_model("t2_micro", position=None).eval(), create_model("t2_micro").eval()
    (curves,) = bare.example_inputs(size=30, batch=2)
    mixed = curves[:, torch.randperm(30)]
    with torch.no_grad():
        torch.testing.assert_close(bare(curves), bare(mixed), rtol=1e-5, atol=1e-5)
        assert (placed(curves) - placed(mixed)).abs().max() > 1e-3


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_any_number_of_extra_features(join: str, extra: int):
    torch.manual_seed(0)
    model = create_model("t2_micro", extra=extra, join=join)
    given = model.example_inputs(batch=2)
    logits = model(*given)
    assert logits.shape == (2, 3) and logits.isfinite().all()
    if extra:
        assert (model(given[0], given[1] + 1) - logits).abs().max() > 1e-4


def test_extra_features_of_another_width_than_declared_raise():
    model = create_model("t2_micro", extra=2)
    curves = torch.zeros(2, 10, 3)
    for extra in (None, torch.zeros(2, 3), torch.zeros(1, 2)):
        with pytest.raises(SizeError, match="2 extra features"):
            model(curves, extra)
    with pytest.raises(SizeError, match="which is none"):
        create_model("t2_micro")(curves, torch.zeros(2, 1))
    with pytest.raises(SizeError, match="3 bands"):
        model(torch.zeros(2, 10, 4), torch.zeros(2, 2))
    with pytest.raises(OptionError, match="num_classes=0"):
        create_model("t2_micro", num_classes=0).activation_map(curves)


def curve(times, bands=None, values=None, errors=None) -> LightCurve:
    n = len(times)
    zeros = np.zeros(n)
    return LightCurve(
        np.asarray(times, dtype=float),
        zeros.astype(int) if bands is None else np.asarray(bands),
        zeros if values is None else np.asarray(values, dtype=float),
        zeros + 0.1 if errors is None else np.asarray(errors, dtype=float),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"times": [0, 2, 2]}, "times of band 0 do not increase"),
        ({"times": [0, 3, 2]}, "sort the observations"),
        ({"times": [0, np.nan, 2]}, "observation 1 of a light curve has no time"),
        ({"times": [0, 1], "values": [1, np.inf]}, "has no value"),
        ({"times": [0, 1], "errors": [1, 0]}, "above 0"),
        ({"times": [0, 1], "values": [1]}, "as many times as"),
        ({"times": []}, "one or more"),
    ],
)
def test_what_is_wrong_with_observations_is_said(wrong: dict, message: str):
    with pytest.raises(DataError, match=message):
        curve(**wrong)


def test_two_bands_may_be_observed_at_once():
    assert len(curve([0, 0, 1], bands=[0, 1, 0]).times) == 3


def test_the_process_goes_through_exact_observations_and_fills_a_band_from_its_neighbour():
    times = np.arange(0.0, 60, 3)
    values = np.exp(-((times - 30) ** 2) / 200)
    seen = curve(times, values=values, errors=np.full(20, 1e-3))
    grid = np.arange(0.0, 60, 1)
    found = interpolate(seen, grid, (5000.0, 5500.0))
    np.testing.assert_allclose(found[::3, 0], values, atol=5e-3)
    truth = np.exp(-((grid - 30) ** 2) / 200)
    assert np.abs(found[:58, 0] - truth[:58]).max() < 0.05
    # A band that was never observed takes after the one near it.
    assert np.corrcoef(found[:, 1], truth)[0, 1] > 0.95
    with pytest.raises(DataError, match="numbered 0 to 0"):
        interpolate(curve([0], bands=[1]), grid, (5000.0,))


def test_bins_hold_the_mean_of_their_observations_and_zero_elsewhere():
    seen = curve([0.1, 0.2, 4.0], bands=[0, 0, 1], values=[1, 3, 5])
    found = bins(seen, np.arange(5.0), 2)
    assert found[0, 0] == 2 and found[4, 1] == 5 and found.sum() == 7


def test_published_variants():
    assert create_model("t2_plasticc").in_channels == 6
    model = create_model("t2_plasticc_with_redshift")
    assert model(*model.example_inputs(batch=2)).shape == (2, 14)
