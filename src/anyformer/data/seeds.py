"""Random numbers without a state: each is a hash of (run, epoch, sample), so any batch can be made again alone.

A resumed run, another number of processes and another micro-batch then see the same augmentations. The hash is
splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from anyformer.data.splits import SPLITS

ORDER, AUGMENT, DROPOUT = range(3)
"""What a run's seed is for: each use has random numbers of its own."""

_WORD = 1 << 64


def _signed(word: int) -> int:
    """The int64 with the bits of this unsigned 64-bit word."""
    word %= _WORD
    return word - _WORD if word >= _WORD >> 1 else word


_GOLDEN, _FIRST, _SECOND = (_signed(w) for w in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _right(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; `>>` on int64 fills with the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def scramble(x: Tensor) -> Tensor:
    """One splitmix64 round on int64, any shape: neighbours become unrelated."""
    x = x + _GOLDEN
    x = (x ^ _right(x, 30)) * _FIRST
    x = (x ^ _right(x, 27)) * _SECOND
    return x ^ _right(x, 31)


def combine(*numbers: int) -> int:
    """One seed in [0, 2^63) out of several integers, such as (run seed, epoch); the order matters."""
    state = torch.zeros(1, dtype=torch.int64)
    for number in numbers:
        state = scramble(state ^ _signed(number))
    return int(_right(state, 1))


def parts_to_draw(train: int, other: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """For each part of a generated set its name, how many samples it has, and a seed of its own."""
    for i, split in enumerate(SPLITS):
        yield split, train if split == "train" else other, combine(seed, i)


def epoch_seed(run: int, epoch: int) -> int:
    """The seed that the images of an epoch are augmented by, in a run of this seed."""
    return combine(run, AUGMENT, epoch)


def sample_seeds(seed: int, indices: Tensor) -> Tensor:
    """`(b,)` int64: the seed of each of these samples, whatever batch they are in."""
    return scramble(indices.to(torch.int64) ^ scramble(torch.tensor(_signed(seed))))


def uniform(seeds: Tensor, stream: int) -> Tensor:
    """`(b,)` float64 in [0, 1): the draw number `stream` of each sample."""
    return _right(scramble(seeds ^ scramble(torch.tensor(stream))), 11).double() * 2.0**-53


def permutation(size: int, seed: int) -> Tensor:
    """`(size,)` int64: 0 to size - 1 in the order of this seed."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))
