"""Freed memory is handed out again, in a process of its own, for what glibc has learned cannot be taken back."""

from __future__ import annotations

import platform
import subprocess
import sys

PROGRAM = """
import resource, sys
import torch
from anyformer.core.memory import reuse_freed_memory

def work():
    "Eight tensors of 4 MiB at once: more than twice the largest of them."
    return [torch.ones(1 << 20) for _ in range(8)]

def faults(times=10):
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times

torch.set_num_threads(1)
if sys.argv[1] == "create_model":
    from anyformer import create_model
    create_model("gpt2_micro")
print(faults())
"""


def test_after_create_model_freed_memory_costs_no_faults():
    found = {}
    for told in ("nothing", "create_model"):
        ran = subprocess.run([sys.executable, "-c", PROGRAM, told], capture_output=True, text=True, check=True)
        found[told] = float(ran.stdout)
    assert found["create_model"] < 100  # of 8,192 pages
    if platform.libc_ver()[0] == "glibc":
        assert found["nothing"] > 300  # else there would be nothing to learn
