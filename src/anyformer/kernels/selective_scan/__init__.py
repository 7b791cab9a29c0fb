"""The selective scan: the linear recurrence of Mamba, whose decay, input and output weights depend on the token.

Gu and Dao 2023, arXiv:2312.00752, equations 2a, 2b and algorithm 2. Channels last; every channel d has N states:

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t        (b, D, N)
    y_t = C_t h_t + D u_t                                 (b, D)

`plain` is this equation as a loop; `operator` the fast one, whose recurrence is `blocked` in torch or, where numba is
installed, `compiled`; `selective_scan` chooses.
"""

from __future__ import annotations

from torch import Tensor

from anyformer.core.errors import SizeError
from anyformer.core.state import check_batch
from anyformer.kernels.selective_scan import operator, plain

__all__ = ["selective_scan"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    resets: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan a batch of sequences: `y` `(b, L, D)` in u's type, and the last state `(b, D, N)`, at least float32.

    One token takes the plain form, which has the least to set up; more take the operator, whose memory for
    training grows with L * D alone and which has first derivatives only (the plain form has all).

    Args:
        u: input `(b, L, D)`.
        delta: step size `(b, L, D)`, before `delta_bias` and softplus.
        A: decay rates `(D, N)`, real, negative for a state that forgets.
        B: input weights, `(b, L, N)`, `(b, L, G, N)` (G groups of D / G neighbouring channels), or `(D, N)`.
        C: output weights, in any of B's shapes.
        D: skip weights `(D,)`.
        z: gate `(b, L, D)`; y is multiplied by silu(z).
        delta_bias: `(D,)`, added to delta.
        delta_softplus: softplus(delta + bias) is the step size.
        resets: `(b, L)`, true where a document starts: nothing before is seen from there on.
        state: `(b, D, N)` before the first token; zero where not given.

    Raises:
        SizeError: the shapes do not belong together; the message names the first that does not.
    """
    batch, length, channels = u.shape
    states = A.shape[-1]
    _check("delta", delta, (batch, length, channels))
    _check("A", A, (channels, states))
    for name, weights in (("B", B), ("C", C)):
        if weights.ndim == 4:
            groups = weights.shape[2]
            if channels % groups:
                raise SizeError(f"selective_scan: {name} has {groups} groups, which do not divide {channels} channels.")
            _check(name, weights, (batch, length, groups, states))
        else:
            _check(name, weights, (batch, length, states) if weights.ndim == 3 else (channels, states))
    if B.ndim == C.ndim == 4 and B.shape[2] != C.shape[2]:
        raise SizeError(f"selective_scan: B has {B.shape[2]} groups and C {C.shape[2]}; give both the same number.")
    if z is not None:
        _check("z", z, (batch, length, channels))
    if resets is not None:
        _check("resets", resets, (batch, length))
    if state is not None:
        check_batch(state, batch, "selective_scan")
        _check("state", state, (batch, channels, states))
    form = plain if length == 1 else operator
    return form.selective_scan(
        u,
        delta,
        A,
        B,
        C,
        D=D,
        z=z,
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
        resets=resets,
        state=state,
    )


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise SizeError(f"selective_scan: {name} has shape {tuple(tensor.shape)}; beside u and A it is {shape}.")
