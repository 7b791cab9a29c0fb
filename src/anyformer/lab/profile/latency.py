"""How long something takes: warm-up, then the median of repeated runs, with the threads that it ran on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from anyformer.core.errors import OptionError


@dataclass(frozen=True)
class Latency:
    """Times of one call in seconds.

    Attributes:
        median: the middle of all runs.
        low, high: tenth and ninetieth percentile.
        runs: how many were timed, warm-up aside.
        threads: threads that torch used on the CPU.
        device: where it ran.
    """

    median: float
    low: float
    high: float
    runs: int
    threads: int
    device: str


def measure_latency(
    function: Callable[[], Any],
    *,
    warmup: int = 2,
    runs: int = 5,
    seconds: float = 0.5,
    device: str = "cpu",
) -> Latency:
    """Time `function()`.

    Args:
        function: what is timed; its result is thrown away.
        warmup: runs before the clock starts.
        runs: at least so many timed runs, one or more.
        seconds: and at least so much time, so that short functions run often.
        device: on "cuda" each run waits until the device is done.

    Raises:
        OptionError: fewer than one run.
    """
    if runs < 1 or warmup < 0:
        raise OptionError(f"a measurement needs runs >= 1 and warmup >= 0; given runs={runs}, warmup={warmup}.")
    wait = torch.cuda.synchronize if device.startswith("cuda") else _nothing
    for _ in range(warmup):
        function()
    wait()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < runs or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - start)
    times.sort()
    last = len(times) - 1
    return Latency(
        median=statistics.median(times),
        low=times[round(0.1 * last)],
        high=times[round(0.9 * last)],
        runs=len(times),
        threads=torch.get_num_threads(),
        device=device,
    )


def _nothing() -> None:
    return None
