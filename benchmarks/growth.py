"""How the time of every mixer that claims linear cost grows with the number of tokens.

    python -m benchmarks.growth
    python -m benchmarks.growth --only mamba --longest 16384 --json runs/growth.json
    python -m benchmarks.growth --keep-memory

A row is the exponent of the median time of a forward pass over 1,024 tokens up to the longest, fitted on log scales:
1 is linear. Mixers are built with their defaults, what has none from the options of their tests, at one width, for a
sequence (rank 1) of random tokens. Filters as long as the sequence go by FFT, n log2(n): 1.10 by the operations alone.
Arrays of more than 32 MiB are fresh memory each time, and the faults of its pages, one for 4 KiB, may be most of the
time of a mixer that computes little: --keep-memory measures without them. Smaller arrays get freed memory again, as
they do after `create_model`.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

from anyformer.core.build import build
from anyformer.core.memory import reuse_freed_memory
from anyformer.core.registry import part_class, parts
from anyformer.core.spec import Spec
from anyformer.lab.profile import growth_exponent
from anyformer.lab.train.fingerprint import fingerprint

SHORTEST = 1024
LINEAR = 1.05
"""Mixers whose declared growth of operations is at most this claim linear cost."""


def linear_mixers(only: str = "") -> list[str]:
    """Mixers of sequences, of any length, that claim linear cost; those whose names contain `only` or one of these."""
    found = {name: part_class(name) for name in parts("mixer") if any(part in name for part in only.split(","))}
    return [n for n, c in found.items() if c.cost <= LINEAR and 1 in c.ranks and not c.fixed_grid]


def spec(name: str) -> Spec:
    """The mixer with its defaults; options without one, and what tells that it is causal, as its tests have them."""
    cls = part_class(name)
    constructors = [inspect.signature(c.__init__).parameters for c in cls.__mro__ if "__init__" in vars(c)]
    defaults = {p.name for taken in constructors for p in taken.values() if p.default is not p.empty}
    return Spec(name, **{k: v for k, v in cls.tiny.items() if k != "grid" and (k not in defaults or k == "causal")})


def keep_memory() -> None:
    """Let the C library (glibc) keep what is freed: it returns large arrays, and each page of a new one costs a fault.

    Raises `RuntimeError` where the library is another one.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    map_at_most, trim_above = -4, -1
    if change is None or not (change(map_at_most, 0) and change(trim_above, 2**31 - 1)):
        raise RuntimeError("--keep-memory sets options of glibc, and this process has another C library.")


def milliseconds(mixer: nn.Module, length: int, dim: int, seconds: float) -> float:
    """Median time of a forward pass, after a warm-up, of at least three."""
    x = torch.randn(1, length, dim)
    times: list[float] = []
    with torch.inference_mode():
        mixer(x)
        start = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            begin = time.perf_counter()
            mixer(x)
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and with --json keep all with the machine's fingerprint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mixers whose names contain this, or one of these,with,commas")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--longest", type=int, default=65536, help="tokens; lengths grow by fours from 1,024")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each length")
    parser.add_argument("--json", type=Path, default=None, help="file for the rows")
    parser.add_argument("--keep-memory", action="store_true", help="without what it costs to get fresh memory")
    given = parser.parse_args(arguments)
    if given.keep_memory:
        keep_memory()
    else:
        reuse_freed_memory()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    lengths = [SHORTEST]
    while lengths[-1] * 4 <= given.longest:
        lengths.append(lengths[-1] * 4)
    rows = []
    for name in linear_mixers(given.only):
        mixer = build(spec(name), "mixer", dim=given.dim, grid=(lengths[-1],), causal=False).eval()
        times = [milliseconds(mixer, length, given.dim, given.seconds) for length in lengths]
        rows.append({"mixer": name, "ms": times, "exponent": growth_exponent(lengths, times)})
        print(f"{name:32s} {rows[-1]['exponent']:5.2f}   " + " ".join(f"{t:9.2f}" for t in times), flush=True)
        if given.json:
            settings = {k: v for k, v in vars(given).items() if k != "json"}
            record = {"settings": settings, "lengths": lengths, "rows": rows, "fingerprint": fingerprint()}
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
