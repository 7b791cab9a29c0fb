"""The Omega rule: a memory that descends, at every token, on how wrong it is about the last tokens together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from anyformer.core.errors import OptionError
from anyformer.kernels.exact import exact
from anyformer.kernels.newton_schulz import newton_schulz
from anyformer.layers.recurrence.memory import decayed_sums, recall, surprise

Surprise = Callable[[list[Tensor], Tensor, Tensor], list[tuple[Tensor, Tensor]]]
Memory = dict[str, Any]


def fresh(weights: list[Float[Tensor, "g i o"]], window: int, v: int) -> Memory:
    """The state of `omega_rule` before the first token, from the memory's first weights; values have `v` channels."""
    groups, inputs = weights[0].shape[:2]
    return {
        "memory": weights,
        "frozen": weights,
        "momentum": [torch.zeros_like(w) for w in weights],
        "k": weights[0].new_zeros(groups, window - 1, inputs),
        "v": weights[0].new_zeros(groups, window - 1, v),
        "gamma": weights[0].new_zeros(groups, window - 1),
    }


def omega_rule(
    q: Float[Tensor, "g n i"],
    k: Float[Tensor, "g n i"],
    v: Float[Tensor, "g n o"],
    *,
    gamma: Float[Tensor, "g n"],
    log_keep: Float[Tensor, "g n"],
    rate: Float[Tensor, "g n"],
    state: Memory,
    log_carry: Float[Tensor, "g n"] | None = None,
    window: int = 1,
    chunk: int = 16,
    place: int = 0,
    steps: int = 0,
    surprise: Surprise = surprise,
    resets: Bool[Tensor, "g m"] | None = None,
) -> tuple[Float[Tensor, "g n o"], Memory]:
    """What is recalled for each query `(g, n, o)` from the memory after its token, and the new state.

        S_t = theta_t S_{t-1} + sum_{i = t-c+1}^t gamma_i grad |M'(k_i) - v_i|^2 / 2
        M_t = alpha_t M_{t-1} - eta_t S_t        or with NewtonSchulz(S_t) in place of S_t

    Behrouz et al. 2025, arXiv:2505.23735, sections 3 and 5. M' is the memory before the chunk, where gradients
    are frozen as there, so that all tokens of a chunk are products of matrices; with chunks of one token
    it is M_{t-1}. Titans (arXiv:2501.00663, equations 9 to 14) is a window of 1 with the step size in gamma. Kept for
    each token of a chunk is a whole memory. Cost: tokens (window + 3 chunk) numbers of the memory, and its recalls.

    Args:
        q, k, v: queries, keys and values of g memories, features of q and k taken already.
        gamma: weight of each token's error.
        log_keep, log_carry: log of alpha, and of theta; None for no momentum.
        rate: eta.
        state: of `fresh`, or of a call before.
        window: c, tokens that are learned together.
        chunk: tokens of a chunk.
        place: tokens of its chunk that the state has seen.
        steps: of Newton-Schulz; 0 for the gradient as it is.
        surprise: each layer's gradient for each token, as outer products.
        resets: chunks, from a `place` of 0, that start from `state` again and learn of no token before.

    Raises:
        OptionError: a window or a chunk below 1.
    """
    if window < 1 or chunk < 1:
        raise OptionError(f"the Omega rule takes a window and a chunk of 1 token or more; given {window} and {chunk}.")
    n, outputs, done = q.shape[1], [], 0
    memory, frozen, momentum = (list(state[name]) for name in ("memory", "frozen", "momentum"))
    held = window - 1
    runs = None if resets is None else F.pad(resets.long().cumsum(1).repeat_interleave(chunk, 1), (held, 0))
    with exact(v):
        k, v, gamma = (torch.cat([state[name], t], 1) for name, t in (("k", k), ("v", v), ("gamma", gamma)))
        while done < n:
            stop = min(n, done + chunk - place)
            now, seen = slice(done, stop), slice(done, stop + held)
            band = torch.ones(stop - done, stop - done + held, device=q.device, dtype=v.dtype).tril(held).triu()
            weigh = band * gamma[:, None, seen]
            if resets is not None and runs is not None:
                weigh = weigh * (runs[:, done + held : stop + held, None] == runs[:, None, seen])
                reset = resets[:, done // chunk, None, None]
                memory, frozen, momentum = (
                    [torch.where(reset, first, last) for first, last in zip(state[name], lasts, strict=True)]
                    for name, lasts in (("memory", memory), ("frozen", frozen), ("momentum", momentum))
                )
            layers = surprise(frozen, k[:, seen], v[:, seen])
            after = []
            for i, (inputs, errors) in enumerate(layers):
                learned = torch.einsum("gtn,gni,gno->gtio", weigh, inputs, errors)
                if log_carry is not None:
                    learned = decayed_sums(learned, log_carry[:, now], momentum[i])
                momentum[i] = learned[:, -1]
                move = newton_schulz(learned, steps) if steps else learned
                moved = decayed_sums(-rate[:, now, None, None] * move, log_keep[:, now], memory[i])
                memory[i] = moved[:, -1]
                after.append(moved)
            outputs.append(recall(after, q[:, now, None])[:, :, 0])
            place = (place + stop - done) % chunk
            frozen = list(memory) if place == 0 else frozen
            done = stop
    y = torch.cat(outputs, 1) if outputs else torch.zeros_like(v[:, :n])
    last = {name: t[:, n:].clone() for name, t in (("k", k), ("v", v), ("gamma", gamma))}
    return y, {"memory": memory, "frozen": frozen, "momentum": momentum, **last}
