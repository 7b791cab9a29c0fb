"""Beam search: the likeliest whole continuation, among a few kept at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from anyformer.core.state import State, select_rows
from anyformer.methods.decoding.sampling import Sampling

Advance = Callable[[Tensor, State], tuple[Tensor, State]]


def length_norm(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha, by which log-probabilities are divided. Wu et al. 2016, arXiv:1609.08144, eq. 14."""
    return ((5 + length) / 6) ** alpha


def beam_search(
    advance: Advance,
    ids: Int[Tensor, "b n"],
    state: State,
    *,
    beams: int,
    max_new_tokens: int,
    end: int | None,
    length_penalty: float,
    sampling: Sampling,
) -> Int[Tensor, "b m"]:
    """The best continuation of each row under log p / `length_norm`, behind its prompt; filled up with `end`.

    Vaswani et al. 2017, arXiv:1706.03762, section 6.1. A row stops when no kept beam can still beat its best
    finished one. Cost: `beams` rows a row.

    Args:
        advance: new ids `(rows, n)` and a state to scores of the next id `(rows, v)` and the new state.
    """
    rows, prompt = ids.shape
    logits, state = advance(ids, state)
    state = select_rows(state, torch.arange(rows, device=ids.device).repeat_interleave(beams))
    logits = logits.repeat_interleave(beams, 0)
    tokens = ids.repeat_interleave(beams, 0)
    # at first all beams of a row are one: only the first of them counts
    scores = torch.full((rows, beams), -math.inf, device=ids.device)
    scores[:, 0] = 0.0
    best: list[tuple[float, Tensor | None]] = [(-math.inf, None)] * rows
    best_norm = length_norm(max_new_tokens, length_penalty) if length_penalty > 0 else length_norm(1, length_penalty)
    for step in range(1, max_new_tokens + 1):
        chances = sampling.penalized(logits, tokens).float().log_softmax(-1)
        vocabulary = chances.shape[-1]
        totals = (scores[:, :, None] + chances.view(rows, beams, -1)).flatten(1)
        top, places = totals.topk(min(2 * beams, totals.shape[1]))
        beam, new = places // vocabulary, places % vocabulary
        if end is not None:
            norm = length_norm(step, length_penalty)
            for row, place in (new == end).nonzero().tolist():
                score = float(top[row, place]) / norm
                if place < beams and score > best[row][0]:
                    best[row] = (score, tokens[row * beams + beam[row, place]].clone())
            top = top.masked_fill(new == end, -math.inf)
        scores, kept = top.topk(min(beams, top.shape[1]))
        if scores.shape[1] < beams:
            scores = torch.nn.functional.pad(scores, (0, beams - scores.shape[1]), value=-math.inf)
            kept = torch.nn.functional.pad(kept, (0, beams - kept.shape[1]))
        source = (torch.arange(rows, device=ids.device)[:, None] * beams + beam.gather(1, kept)).flatten()
        chosen = new.gather(1, kept).flatten()
        tokens = torch.cat([tokens[source], chosen[:, None]], 1)
        if all(finished >= alive / best_norm for (finished, _), alive in zip(best, scores[:, 0].tolist(), strict=True)):
            break
        if step < max_new_tokens:
            logits, state = advance(chosen[:, None], select_rows(state, source))
    norm = length_norm(tokens.shape[1] - prompt, length_penalty)
    results = []
    for row, (score, finished) in enumerate(best):
        if finished is None or float(scores[row, 0]) / norm > score:
            results.append(tokens[row * beams])
        else:
            results.append(torch.cat([finished, finished.new_tensor([end])]))
    longest = max(len(result) for result in results)
    return torch.stack([torch.nn.functional.pad(r, (0, longest - len(r)), value=end or 0) for r in results])
