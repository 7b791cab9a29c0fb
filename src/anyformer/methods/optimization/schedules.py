"""Learning rates that change from step to step."""

from __future__ import annotations

from collections.abc import Callable

from anyformer.core.errors import OptionError


def warmup_inverse_sqrt(dim: int, warmup: int = 4000) -> Callable[[int], float]:
    """dim^-0.5 min(step^-0.5, step warmup^-1.5): linear growth over `warmup` steps, then decay with 1 / sqrt(step).

    Vaswani et al. 2017, arXiv:1706.03762, equation 3. The paper's base model has dim 512 and warmup 4000, with Adam
    (0.9, 0.98, 1e-9) and label smoothing 0.1.

    Args:
        dim: channels of the model.
        warmup: steps of growth; the peak is (dim warmup)^-0.5.

    Returns:
        the learning rate of a step, counted from 0 as optimizers count (the paper's step is one more); as
        `torch.optim.lr_scheduler.LambdaLR(optimizer, ...)` wants it, for an optimizer with lr=1.
    """
    if dim < 1 or warmup < 1:
        raise OptionError(f"warmup_inverse_sqrt takes dim and warmup of at least 1; given {dim} and {warmup}.")

    def rate(step: int) -> float:
        step += 1
        return dim**-0.5 * min(step**-0.5, step * warmup**-1.5)

    return rate


METHODS = {"warmup_inverse_sqrt": warmup_inverse_sqrt}
