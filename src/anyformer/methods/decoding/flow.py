"""Flow matching: paths from noise to data, what a model may tell on them, and solvers that follow its velocity.

Lipman et al. 2022, arXiv:2210.02747; Lipman et al. 2024 (guide and code), arXiv:2412.06264. Here time runs from 0
(noise x_0) to 1 (data x_1): x_t = alpha(t) x_1 + sigma(t) x_0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import OptionError, suggest
from anyformer.methods.decoding.generate import running
from anyformer.methods.decoding.guidance import guidance

Quantity = Literal["velocity", "noise", "data"]
QUANTITIES = ("velocity", "noise", "data")
EDGE = 1e-3
"""How near to either end what a model tells is still converted: there, noise or data alone do not tell the velocity."""


@dataclass(frozen=True)
class Rates:
    """alpha and sigma at a time, and their derivatives in time."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    def over(self, x: Tensor) -> Rates:
        """The same so that they broadcast over samples."""
        shape = (-1, *[1] * (x.dim() - 1))
        return Rates(*(r.view(shape) for r in (self.alpha, self.sigma, self.d_alpha, self.d_sigma)))


class Path:
    """A path: `rates(t)` for times `(b,)` in [0, 1], and what follows from them."""

    def rates(self, t: Float[Tensor, "b"]) -> Rates:
        """alpha, sigma and their derivatives."""
        raise NotImplementedError

    def time_of(self, ratio: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The time at which alpha / sigma is this."""
        raise NotImplementedError

    def place(self, noise: Tensor, data: Tensor, t: Float[Tensor, "b"]) -> Tensor:
        """x_t."""
        r = self.rates(t).over(data)
        return r.alpha * data + r.sigma * noise

    def velocity(self, noise: Tensor, data: Tensor, t: Float[Tensor, "b"]) -> Tensor:
        """dx_t / dt: what a model of the velocity learns."""
        r = self.rates(t).over(data)
        return r.d_alpha * data + r.d_sigma * noise

    def convert(self, told: Tensor, x: Tensor, t: Float[Tensor, "b"], source: Quantity, target: Quantity) -> Tensor:
        """What a model tells at x_t as another quantity: two of velocity, noise, data and x_t fix the others.

        arXiv:2412.06264. Not defined where the path has none of what is asked for: at an end.

        Raises `OptionError` for another quantity.
        """
        for given in (source, target):
            if given not in QUANTITIES:
                raise OptionError(f"a model tells velocity, noise or data; given {given!r}.")
        if source == target:
            return told
        r = self.rates(t).over(x)
        turning = r.sigma * r.d_alpha - r.d_sigma * r.alpha
        if source == "velocity":
            data = (r.sigma * told - r.d_sigma * x) / turning
            noise = (r.d_alpha * x - r.alpha * told) / turning
        elif source == "noise":
            data, noise = (x - r.sigma * told) / r.alpha, told
        else:
            data, noise = told, (x - r.alpha * told) / r.sigma
        found = {"data": data, "noise": noise}
        return found[target] if target in found else r.d_alpha * data + r.d_sigma * noise


class Polynomial(Path):
    """alpha = t^n, sigma = 1 - t^n; with n = 1 the straight path of conditional optimal transport.

    Raises `OptionError` unless n is above 0.
    """

    def __init__(self, n: float = 3.0):
        if not n > 0:
            raise OptionError(f"n of a polynomial path is above 0; given {n}.")
        self.n = n

    def rates(self, t: Float[Tensor, "b"]) -> Rates:
        power, slope = t**self.n, self.n * t ** (self.n - 1)
        return Rates(power, 1 - power, slope, -slope)

    def time_of(self, ratio: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return (ratio / (1 + ratio)) ** (1 / self.n)


class CondOT(Polynomial):
    """alpha = t, sigma = 1 - t. arXiv:2210.02747, equation 22; rectified flow, arXiv:2209.03003."""

    def __init__(self):
        super().__init__(1.0)


class VariancePreserving(Path):
    """alpha = exp(-T/2), sigma = sqrt(1 - exp(-T)), T = (1-t)^2 (B - b) / 2 + (1-t) b. arXiv:2011.13456.

    Args:
        least, most: b and B, how fast noise comes at the data end and at the other.
    """

    def __init__(self, least: float = 0.1, most: float = 20.0):
        if not 0 < least < most:
            raise OptionError(f"variance_preserving takes 0 < least < most; given {least} and {most}.")
        self.least, self.most = least, most

    def rates(self, t: Float[Tensor, "b"]) -> Rates:
        left, span = 1 - t, self.most - self.least
        total = 0.5 * left**2 * span + left * self.least
        slope = -left * span - self.least
        alpha, sigma = (-0.5 * total).exp(), (-torch.expm1(-total)).sqrt()
        return Rates(alpha, sigma, -0.5 * slope * alpha, 0.5 * slope * alpha**2 / sigma)

    def time_of(self, ratio: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        total, span = torch.log1p(ratio**-2), self.most - self.least
        return 1 - ((self.least**2 + 2 * span * total).sqrt() - self.least) / span


class LinearVP(Path):
    """alpha = t, sigma = sqrt(1 - t^2): straight in the data, of constant variance."""

    def rates(self, t: Float[Tensor, "b"]) -> Rates:
        sigma = (1 - t**2).sqrt()
        return Rates(t, sigma, torch.ones_like(t), -t / sigma)

    def time_of(self, ratio: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return ratio / (1 + ratio**2).sqrt()


class Cosine(Path):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2). Stochastic interpolants, arXiv:2303.08797."""

    def rates(self, t: Float[Tensor, "b"]) -> Rates:
        angle, half = t * math.pi / 2, math.pi / 2
        return Rates(angle.sin(), angle.cos(), half * angle.cos(), -half * angle.sin())

    def time_of(self, ratio: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return ratio.atan() * 2 / math.pi


PATHS: dict[str, Callable[[], Path]] = {
    "cond_ot": CondOT,
    "polynomial": Polynomial,
    "variance_preserving": VariancePreserving,
    "linear_vp": LinearVP,
    "cosine": Cosine,
}
"""Paths by name."""


def path_of(path: str | Path) -> Path:
    """A path by its name; one that is made already is returned as it is. Raises `OptionError` for an unknown name."""
    if isinstance(path, Path):
        return path
    if path not in PATHS:
        raise OptionError(f"there is no path {path!r}; {suggest(path, PATHS)}")
    return PATHS[path]()


Field = Callable[[Tensor, Tensor], Tensor]
"""A velocity: from places `(b, ...)` and one time, a scalar, to velocities of the places' shape."""


def euler(field: Field, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """x + h v(x, t): order 1, one call of the model a step."""
    return x + h * field(x, t)


def heun(field: Field, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """The mean of the velocities at both ends of Euler's step: order 2, two calls."""
    first = field(x, t)
    return x + h / 2 * (first + field(x + h * first, t + h))


def midpoint(field: Field, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """The velocity in the middle of Euler's step: order 2, two calls."""
    return x + h * field(x + h / 2 * field(x, t), t + h / 2)


SOLVERS = {"euler": euler, "heun": heun, "midpoint": midpoint}


def solve(
    field: Field, x: Tensor, *, solver: str = "heun", steps: int = 25, start: float = 0.0, end: float = 1.0
) -> Tensor:
    """Follow a velocity from time `start` to `end` in equal steps; backwards where `end` is the earlier one.

    Raises `OptionError` for an unknown solver, or less than one step.
    """
    if solver not in SOLVERS:
        raise OptionError(f"there is no solver {solver!r}; {suggest(solver, SOLVERS)}")
    if steps < 1:
        raise OptionError(f"a solver takes one step or more; given {steps}.")
    times = torch.linspace(start, end, steps + 1, device=x.device, dtype=x.dtype)
    for t, following in pairwise(times):
        x = SOLVERS[solver](field, x, t, following - t)
    return x


def sample_flow(
    model: nn.Module,
    noise: Tensor | Sequence[int],
    labels: Int[Tensor, "b"] | None = None,
    *,
    path: str | Path = "cond_ot",
    tells: Quantity = "velocity",
    solver: str = "heun",
    steps: int = 25,
    scale: float = 1.0,
    timesteps: float = 1000.0,
    seed: int | None = None,
) -> Tensor:
    """Images out of noise, along the velocity of a denoiser. Cost: `steps` passes of the model, or twice as many.

    Args:
        model: a denoiser `model(x, t, labels)`, such as DiT; without labels `model(x, t)`. It is asked at times
            (1 - t) `timesteps`: as in diffusion, 0 is the data's end.
        noise: where to start, `(b, c, h, w)`, or the shape of it, which is then drawn.
        labels: class of each image.
        path: the path that the model was trained on: a row of `PATHS`.
        tells: "velocity", "noise" or "data"; channels beyond the image's are not read.
        solver, steps: a row of `SOLVERS`; equal steps from 0 to 1.
        scale: of the guidance; 1 for none. See `guidance.guided`.
        timesteps: the model's time at the end of the noise.
        seed: makes the draw the same again.

    Raises:
        OptionError: an unknown path, quantity or solver; guidance without labels or null class.
    """
    way = path_of(path)
    if tells not in QUANTITIES:
        raise OptionError(f"a model tells velocity, noise or data; given {tells!r}.")
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())) if seed is None else seed)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with running(model):
        start = noise if isinstance(noise, Tensor) else torch.randn(*noise, generator=generator)
        channels = start.shape[1]
        denoise = guidance(model, scale, labels, channels)
        told = () if labels is None else (labels.to(device),)

        def field(x: Tensor, t: Tensor) -> Tensor:
            each = t.expand(len(x))
            answer = denoise(x, (1 - each) * timesteps, *told)[:, :channels].float()
            if tells == "velocity":
                return answer
            return way.convert(answer, x, each.clamp(EDGE, 1 - EDGE), tells, "velocity")

        x = solve(field, start.to(device), solver=solver, steps=steps)
    return x.clone()


METHODS = {"sample_flow": sample_flow}
