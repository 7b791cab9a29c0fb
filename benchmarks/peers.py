"""Ours against timm, transformers and x-transformers: the same model, input and threads, alternating in one process.

    python -m benchmarks.peers                     all cases, forward; and generation
    python -m benchmarks.peers --backward          those that train, forward and backward
    python -m benchmarks.peers --only swin --json runs/peers.json
    python -m benchmarks.peers --room language     models of one room: images or language

Backward is that of the sum of what a model returns, to all its weights, in evaluation mode (nothing is dropped). A row
is the ratio of medians, theirs / ours: above 1, ours is faster. Weights are random on both sides; that the models
compute the same is the goldens' business. With --json the file is written after each row, so a run that is ended keeps
what it measured. Needs the extra: pip install -c constraints.txt -e '.[peers]'.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anyformer.lab.train.fingerprint import fingerprint
from benchmarks import images, language
from benchmarks.case import Case, with_backward


def cases(batch: int, room: str = "") -> dict[str, Callable[[], Case]]:
    """Every case of a room, or of all, by name, made when its turn comes."""
    rooms = {"images": images.cases(batch), "language": language.cases()}
    return {name: make for key, made in rooms.items() if room in ("", key) for name, make in made.items()}


def measure(case: Case, seconds: float, backward: bool) -> tuple[list[float], list[float]]:
    """Times of both in turns, for about `seconds` after one warm-up each, at least three rounds."""
    times: tuple[list[float], list[float]] = ([], [])
    runs = tuple(with_backward(run) if backward else run for run in (case.ours, case.theirs))
    with contextlib.nullcontext() if backward else torch.inference_mode():
        for run in runs:
            run()
        forget = case.forget if backward else None
        start = time.perf_counter()
        while len(times[0]) < 3 or time.perf_counter() - start < seconds:
            for run, kept in zip(runs, times, strict=True):
                if forget is not None:
                    forget()
                begin = time.perf_counter()
                run()
                kept.append(time.perf_counter() - begin)
    return times


def record(rows: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run: settings, rows, the geometric mean of all and by peer, and the machine's fingerprint."""
    by_peer: dict[str, list[float]] = {}
    for row in rows:
        by_peer.setdefault(row["peer"], []).append(math.log(row["ratio"]))
    means = {name: math.exp(statistics.fmean(logs)) for name, logs in by_peer.items()}
    mean = math.exp(statistics.fmean(log for logs in by_peer.values() for log in logs))
    return {"settings": settings, "rows": rows, "geometric_mean": mean, "by_peer": means, "fingerprint": fingerprint()}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a line a case and the geometric means; with --json keep all with the machine's fingerprint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", default="", choices=["", "images", "language"], help="models of this room alone")
    parser.add_argument("--only", default="", help="cases whose names contain this, or one of these,with,commas")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--backward", action="store_true", help="forward and backward in place of forward")
    parser.add_argument("--json", type=Path, default=None, help="file for the rows")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    work = "forward and backward" if given.backward else "forward"
    settings = {"work": work, "threads": given.threads, "batch": given.batch, "dtype": "float32"}
    wanted = given.only.split(",")
    chosen = {n: make for n, make in cases(given.batch, given.room).items() if any(w in n for w in wanted)}
    rows: list[dict[str, Any]] = []
    for make in chosen.values():
        torch.manual_seed(0)
        case = make()
        if given.backward and not case.trains:
            continue
        ours, theirs = measure(case, given.seconds, given.backward)
        row = {
            "case": case.name,
            "peer": case.peer,
            "ours_ms": 1e3 * statistics.median(ours),
            "theirs_ms": 1e3 * statistics.median(theirs),
            "rounds": len(ours),
        }
        row["ratio"] = row["theirs_ms"] / row["ours_ms"]
        rows.append(row)
        print(
            f"{case.name:36s} {row['ratio']:5.2f} x {case.peer:14s} ours {row['ours_ms']:8.1f} ms, "
            f"theirs {row['theirs_ms']:8.1f} ms, {row['rounds']} rounds",
            flush=True,
        )
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(record(rows, settings), indent=1) + "\n")
    if not rows:
        print(f"no case is named like {given.only!r}; there are: {', '.join(cases(1, given.room))}", file=sys.stderr)
        return 2
    for name, mean in record(rows, settings)["by_peer"].items():
        print(f"geometric mean {mean:.2f} x {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
