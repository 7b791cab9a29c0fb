"""What the C library does with memory that is freed, which on a CPU is a good part of the time of large layers."""

from __future__ import annotations

from functools import cache

LARGEST = (32 << 20) - (64 << 10)
"""Bytes: glibc learns from arrays of up to 32 MiB, its own header among them."""


@cache
def reuse_freed_memory() -> None:
    """Free one array of almost 32 MiB, once in a process, from which glibc learns to hand freed memory out again.

    glibc maps an array of its own pages where it is larger than any that was freed before, and gives freed memory
    back where more than twice that size lies at the top of its heap (mallopt(3), M_MMAP_THRESHOLD); each page of 4 KiB
    then costs a fault when it is next written. A layer whose tensors together outgrow its largest one pays that at
    every call: Mamba 130M on 2,048 tokens 400,000 faults and a second of the kernel's time. Afterwards up to 64 MiB of
    freed memory stay with the process. Nothing is written, so it costs microseconds; options of glibc that are set by
    its environment variables, and other C libraries, are left as they are.
    """
    import torch

    torch.empty(LARGEST, dtype=torch.uint8)
