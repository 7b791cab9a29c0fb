"""Neighborhood attention against its equation with gathered neighbours: time at 56x56, and memory up to 256x256.

    python -m benchmarks.neighborhood
    python -m benchmarks.neighborhood --kernel 13 --json benchmarks/results/neighborhood.json

Times are medians of runs in turns; x is plain / ours. Memory is the most that a call holds in tensors beyond what it is
given; its growth is the exponent in the number of tokens: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from anyformer.kernels.neighborhood import neighborhood_attention, neighborhood_plain
from anyformer.lab.profile import growth_exponent
from anyformer.lab.train.fingerprint import fingerprint

SIDES = (32, 64, 128, 256)
"""Of the maps whose memory is measured."""


def draw(side: int, heads: int, dim: int, kernel: int, batch: int) -> list[Tensor]:
    """Queries, keys and values as a projection gives them, and a bias; all wanting gradients."""
    shape = (batch, side * side, heads, dim)
    made = [torch.randn(shape).transpose(1, 2).unflatten(2, (side, side)) for _ in range(3)]
    return [t.detach().requires_grad_() for t in (*made, torch.randn(heads, (2 * kernel - 1) ** 2))]


def calls(given: list[Tensor], kernel: int, dilation: int) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Ours and the equation, forward alone and with backward."""
    q, k, v, bias = given

    def forward(form: Callable[..., Tensor]) -> Tensor:
        return form(q, k, v, kernel=(kernel, kernel), dilation=(dilation, dilation), bias=bias)

    def inference(form: Callable[..., Tensor]) -> None:
        with torch.inference_mode():
            forward(form)

    def training(form: Callable[..., Tensor]) -> None:
        for t in given:
            t.grad = None
        forward(form).sum().backward()

    forms = (neighborhood_attention, neighborhood_plain)
    made = {}
    for name, run in (("forward", inference), ("forward and backward", training)):
        ours, theirs = (lambda run=run, form=form: run(form) for form in forms)
        made[name] = (ours, theirs)
    return made


def in_turns(ours: Callable[[], None], theirs: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Medians in milliseconds, after one warm-up each, at least five rounds."""
    times: tuple[list[float], list[float]] = ([], [])
    ours(), theirs()
    start = time.perf_counter()
    while len(times[0]) < 5 or time.perf_counter() - start < seconds:
        for run, kept in zip((ours, theirs), times, strict=True):
            begin = time.perf_counter()
            run()
            kept.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[0]), statistics.median(times[1])


def peak(run: Callable[[], None]) -> int:
    """Bytes that a call holds at most in tensors that it makes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    now = most = 0
    changes = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for change in sorted(changes, key=lambda e: e.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and with --json keep all with the machine's fingerprint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--dim", type=int, default=32, help="channels of a head")
    parser.add_argument("--kernel", type=int, default=7)
    parser.add_argument("--dilations", type=int, nargs="*", default=[1, 3, 8])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each case")
    parser.add_argument("--json", type=Path, default=None, help="file for the rows")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    rows: list[dict[str, object]] = []
    for dilation in given.dilations:
        tensors = draw(56, given.heads, given.dim, given.kernel, given.batch)
        for what, (ours, theirs) in calls(tensors, given.kernel, dilation).items():
            mine, plain = in_turns(ours, theirs, given.seconds)
            rows.append({"case": f"56x56, dilation {dilation}, {what}", "ours_ms": mine, "plain_ms": plain})
            print(
                f"{rows[-1]['case']:45s} {plain / mine:5.1f} x, ours {mine:8.2f} ms, plain {plain:8.2f} ms", flush=True
            )
    growth: dict[str, float] = {}
    memory: dict[str, list[int]] = {}
    for side in SIDES:
        tensors = draw(side, given.heads, given.dim, given.kernel, 1)
        for what, (ours, _) in calls(tensors, given.kernel, 1).items():
            memory.setdefault(what, []).append(peak(ours))
            print(f"{side}x{side}, {what}: {memory[what][-1] / 2**20:.1f} MiB", flush=True)
    for what, found in memory.items():
        growth[what] = growth_exponent([s * s for s in SIDES], found)
        print(f"memory of {what} grows as tokens^{growth[what]:.2f}")
    if given.json:
        settings = {k: v for k, v in vars(given).items() if k != "json"}
        record = {"settings": settings, "rows": rows, "sides": SIDES, "memory": memory, "growth": growth}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(record | {"fingerprint": fingerprint()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
