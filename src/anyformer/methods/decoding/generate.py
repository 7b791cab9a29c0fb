"""Continue prompts with any model that keeps a state: attention with its cache and state spaces run the same loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.state import State
from anyformer.methods.decoding.beam import beam_search
from anyformer.methods.decoding.sampling import Sampling

Stream = Callable[[Tensor], Any]


def generate(
    model: nn.Module,
    ids: Tensor | Sequence[Any],
    *,
    max_new_tokens: int,
    end: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    beams: int = 1,
    length_penalty: float = 0.0,
    seed: int | None = None,
    stream: Stream | None = None,
    state: State | None = None,
) -> Any:
    """Prompts with their continuations.

    Prompts of one length are a tensor `(b, n)`; the result is `(b, n + new)`, where a row that ended early is filled up
    with `end`. Prompts of several lengths are a list of lists or of tensors `(n,)`; the result is a list of tensors,
    each up to its own `end`, the same as if every prompt were alone. Dropout is off meanwhile. Cost: one pass over the
    prompt, then one step of the model a token.

    Args:
        model: has `init_state(batch)` and `extend(ids, state)`, as decoders and encoder-decoders here have.
        max_new_tokens: most ids to add.
        end: id after which a row is done; it is part of the result.
        temperature: 0 takes the likeliest id each time, above it ids are drawn.
        top_k, top_p, min_p, repetition_penalty: as in `Sampling`.
        beams: above 1, search with this many beams instead (`beam_search`).
        length_penalty: alpha of ((5 + length) / 6)^alpha, for beams; above 0 favours longer results.
        seed: makes draws the same again; row i draws with seed + i.
        stream: called with the new ids `(b,)` of each step.
        state: continue after it, instead of from the start; only for a tensor of prompts.

    Raises:
        OptionError: an option outside its range, or options that exclude each other.
        DataError: an empty prompt, or ids outside the vocabulary.
        SizeError: the continuation would go beyond the model's learned positions.
        FitError: the model keeps no state.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    if max_new_tokens < 0:
        raise OptionError(f"max_new_tokens is 0 or more; given {max_new_tokens}.")
    if beams < 1:
        raise OptionError(f"beams is 1 or more; given {beams}.")
    if beams > 1 and (temperature > 0 or stream is not None):
        raise OptionError("beams above 1 search for the likeliest whole result: leave out temperature and stream.")
    seed = int(torch.randint(2**31, ())) if seed is None and temperature > 0 else seed or 0
    many = not isinstance(ids, Tensor)
    if many and (state is not None or stream is not None):
        raise OptionError("state and stream go with a tensor of prompts (b, n), not with a list of prompts.")
    groups = _by_length(ids) if many else [(list(range(len(ids))), ids)]
    results: list[Any] = [None] * sum(len(rows) for rows, _ in groups)
    out = ids
    with running(model):
        for rows, prompts in groups:
            prompts = prompts.to(next(model.parameters()).device)
            draws = [torch.Generator().manual_seed(seed + row) for row in rows] if temperature > 0 else []
            start = _start(model, prompts, max_new_tokens, state)
            if max_new_tokens == 0:
                out = prompts
            elif beams > 1:
                out = beam_search(
                    lambda new, old: _advance(model, new, old),
                    prompts,
                    start,
                    beams=beams,
                    max_new_tokens=max_new_tokens,
                    end=end,
                    length_penalty=length_penalty,
                    sampling=sampling,
                )
            else:
                out = _one_by_one(model, prompts, start, max_new_tokens, end, sampling, draws, stream)
            for row, tokens in zip(rows, out, strict=True):
                results[row] = _cut(tokens, prompts.shape[1], end)
    # what was made in inference mode cannot take part in training; copies can
    return [tokens.clone() for tokens in results] if many else out.clone()


def _one_by_one(
    model: nn.Module,
    ids: Int[Tensor, "b n"],
    state: State,
    max_new_tokens: int,
    end: int | None,
    sampling: Sampling,
    draws: list[torch.Generator],
    stream: Stream | None,
) -> Int[Tensor, "b m"]:
    """Choose an id for each row, append it, go on."""
    length = ids.shape[1]
    tokens = torch.nn.functional.pad(ids, (0, max_new_tokens))
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    following = ids
    for _ in range(max_new_tokens):
        logits, state = _advance(model, following, state)
        new = sampling.choose(logits, tokens[:, :length], draws)
        if end is not None:
            new = new.masked_fill(ended, end)
            ended |= new == end
        tokens[:, length] = new
        length += 1
        if stream is not None:
            stream(new)
        if end is not None and bool(ended.all()):
            break
        following = new[:, None]
    return tokens[:, :length]


def _advance(model: Any, ids: Tensor, state: State) -> tuple[Tensor, State]:
    """Scores of the id after the last of `ids`, `(b, v)`; a long prompt's other scores are not computed."""
    if hasattr(model, "extend_tokens"):
        tokens, state = model.extend_tokens(ids, state)
        return model.logits(tokens[:, -1]), state
    logits, state = model.extend(ids, state)
    return logits[:, -1], state


def _start(model: Any, ids: Tensor, max_new_tokens: int, state: State | None) -> State:
    """The state to begin with, after a look at whether prompt and continuation have room."""
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise DataError(f"prompts are ids (b, n) with n of at least 1; given a tensor of shape {tuple(ids.shape)}.")
    if not (hasattr(model, "init_state") and hasattr(model, "extend")):
        name = getattr(model, "name", "") or type(model).__name__
        raise FitError(f"{name} has no init_state and extend, so it cannot write token by token; a decoder can.")
    seen = int(state["seen"].max()) if isinstance(state, dict) and "seen" in state and len(ids) else 0
    limit = getattr(getattr(model, "embedding", None), "limit", None)
    if limit is not None and seen + ids.shape[1] + max_new_tokens - 1 > limit:
        raise SizeError(
            f"after {seen + ids.shape[1]} tokens the model's {limit} learned positions leave room for "
            f"{max(0, limit + 1 - seen - ids.shape[1])} more; max_new_tokens is {max_new_tokens}."
        )
    if state is not None:
        return state
    try:
        return model.init_state(len(ids))
    except NotImplementedError as error:
        raise FitError(f"{error}, so this model cannot write token by token; swap it for a part that does.") from error


def _by_length(prompts: Sequence[Any]) -> list[tuple[list[int], Tensor]]:
    """Prompts of equal length together: (their places in the list, their ids `(b, n)`)."""
    groups: dict[int, list[int]] = {}
    rows = [torch.as_tensor(prompt) for prompt in prompts]
    for place, row in enumerate(rows):
        if row.ndim != 1 or len(row) == 0:
            raise DataError(f"prompt {place} is a list of at least one id; given shape {tuple(row.shape)}.")
        groups.setdefault(len(row), []).append(place)
    return [(places, torch.stack([rows[place] for place in places])) for places in groups.values()]


def _cut(tokens: Tensor, prompt: int, end: int | None) -> Tensor:
    """A row up to the first `end` behind its prompt."""
    if end is None:
        return tokens
    ends = (tokens[prompt:] == end).nonzero()
    return tokens[: prompt + int(ends[0]) + 1] if len(ends) else tokens


@contextmanager
def running(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and the mode of before afterwards."""
    training = model.training
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            model.train()


METHODS = {"generate": generate}
