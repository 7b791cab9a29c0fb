"""Light curves: brightness at irregular times in several bands, brought to a regular grid by a Gaussian process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from anyformer.core.errors import DataError

SCALES = (5.0, 10.0, 20.0, 40.0)
"""Length scales in time that are tried, in the unit of the times (days)."""


@dataclass(frozen=True)
class LightCurve:
    """Observations of one object.

    Attributes:
        times: `(n,)`, not falling; two bands may be observed at once.
        bands: `(n,)`, number of the band of each.
        values, errors: `(n,)`, brightness and its standard error.
    """

    times: Float[np.ndarray, "n"]
    bands: Int[np.ndarray, "n"]
    values: Float[np.ndarray, "n"]
    errors: Float[np.ndarray, "n"]

    def __post_init__(self) -> None:
        sizes = {len(self.times), len(self.bands), len(self.values), len(self.errors)}
        if len(sizes) != 1 or len(self.times) == 0:
            raise DataError(
                f"a light curve has as many times as bands, values and errors, one or more; given {len(self.times)}, "
                f"{len(self.bands)}, {len(self.values)} and {len(self.errors)}."
            )
        for what in ("times", "values", "errors"):
            wrong = np.flatnonzero(~np.isfinite(getattr(self, what)))
            if len(wrong):
                raise DataError(f"observation {wrong[0]} of a light curve has no {what[:-1]}: leave it out.")
        if (np.asarray(self.errors) <= 0).any():
            raise DataError("the standard errors of a light curve are above 0.")
        for band in np.unique(self.bands):
            steps = np.diff(np.asarray(self.times)[np.asarray(self.bands) == band])
            if (steps <= 0).any():
                raise DataError(
                    f"the times of band {band} do not increase: sort the observations, and keep one for each time."
                )


def interpolate(
    curve: LightCurve, grid: Float[np.ndarray, "m"], wavelengths: Sequence[float], *, across: float = 6000.0
) -> Float[np.ndarray, "m bands"]:
    """The expected brightness on a grid of times in every band, by a Gaussian process over time and wavelength.

    The covariance is a^2 M(r) with r^2 = (dt / l)^2 + (dw / across)^2 and M(r) = (1 + sqrt(3) r) exp(-sqrt(3) r), which
    is Matern's of order 3/2.
    Boone 2019, arXiv:1907.04690, as used in arXiv:2105.06178: `across` (angstrom) is fixed; a and
    l are chosen by marginal likelihood, here among half, once and twice the deviation of the values, and `SCALES`.
    Cost: n^3 for each of the twelve pairs.

    Raises `DataError` for a band without a wavelength.
    """
    if curve.bands.min() < 0 or curve.bands.max() >= len(wavelengths):
        raise DataError(f"bands are numbered 0 to {len(wavelengths) - 1}; given {sorted(set(curve.bands.tolist()))}.")
    waves = np.asarray(wavelengths, dtype=np.float64)
    own = waves[curve.bands]
    between = (own[:, None] - own) / across
    apart = curve.times[:, None] - curve.times
    deviation = max(float(curve.values.std()), float(curve.errors.mean()))
    best, weights, chosen = -np.inf, np.zeros(len(own)), (deviation, SCALES[0])
    for amplitude in (0.5 * deviation, deviation, 2 * deviation):
        for scale in SCALES:
            matrix = amplitude**2 * _matern(apart / scale, between) + np.diag(curve.errors.astype(np.float64) ** 2)
            lower = np.linalg.cholesky(matrix)
            solved = np.linalg.solve(matrix, curve.values)
            likelihood = -0.5 * float(curve.values @ solved) - float(np.log(np.diag(lower)).sum())
            if likelihood > best:
                best, weights, chosen = likelihood, solved, (amplitude, scale)
    amplitude, scale = chosen
    times = (np.repeat(grid, len(waves))[:, None] - curve.times) / scale
    colours = (np.tile(waves, len(grid))[:, None] - own) / across
    return (amplitude**2 * _matern(times, colours) @ weights).reshape(len(grid), len(waves))


def _matern(time: Float[np.ndarray, "*n"], wave: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    r = np.sqrt(3 * (time**2 + wave**2))
    return (1 + r) * np.exp(-r)


def bins(curve: LightCurve, grid: Float[np.ndarray, "m"], bands: int) -> Float[np.ndarray, "m bands"]:
    """Each observation at its nearest time of the grid (their mean where several are), and 0 where there is none."""
    nearest = np.abs(grid[:, None] - curve.times).argmin(0)
    total, count = np.zeros((len(grid), bands)), np.zeros((len(grid), bands))
    np.add.at(total, (nearest, curve.bands), curve.values)
    np.add.at(count, (nearest, curve.bands), 1)
    return total / np.maximum(count, 1)
