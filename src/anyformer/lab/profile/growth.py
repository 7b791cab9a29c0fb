"""How a quantity grows with the size of the input: the exponent of the power law that fits best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anyformer.core.errors import OptionError


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent `p` of `values ~ c * sizes^p`, by least squares of the logarithms.

    1 is linear growth, 2 quadratic. Raises `OptionError` for fewer than two different sizes, or anything that is
    not positive.
    """
    if len(sizes) != len(values) or len(set(sizes)) < 2:
        raise OptionError(f"growth needs a value at each of two or more sizes; given {list(sizes)}: {list(values)}.")
    if min(sizes) <= 0 or min(values) <= 0:
        raise OptionError(f"growth needs positive sizes and values; given {list(sizes)}: {list(values)}.")
    x, y = [math.log(s) for s in sizes], [math.log(v) for v in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return slope / sum((a - mean_x) ** 2 for a in x)
