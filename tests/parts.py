"""What the contract tests build: every registered part, tiny, on every grid that it serves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.core.build import build, signature
from anyformer.core.registry import part_class, parts
from anyformer.core.spec import Spec

DIM = 8
GRIDS = {1: (12,), 2: (4, 6), 3: (2, 4, 4)}
MIXERS = list(parts("mixer"))


def mixer_cases() -> list[tuple[str, int]]:
    return [(name, rank) for name in MIXERS for rank in part_class(name).ranks]


def causal_mixers() -> list[str]:
    return [name for name in MIXERS if part_class(name).causality != "never"]


def tiny(name: str) -> Spec:
    """Its tiny options; a mixer's grid comes from where it stands."""
    cls = part_class(name)
    return Spec(name, **{k: v for k, v in cls.tiny.items() if k != "grid" or cls.kind != "mixer"})


def make_mixer(name: str, grid: tuple[int, ...], causal: bool = False, dim: int = DIM) -> nn.Module:
    torch.manual_seed(0)
    mixer = build(tiny(name), "mixer", dim=dim, grid=grid, causal=causal, layer=1, layers=4)
    return stirred(mixer)


def make(name: str) -> nn.Module:
    """Any part, alone, from its tiny options."""
    torch.manual_seed(0)
    cls = part_class(name)
    context = {"dim": DIM, "rank": 2, "grid": (4, 6)}
    known = signature(cls)
    return build(Spec(name, **cls.tiny), cls.kind, **{k: v for k, v in context.items() if k in known})


def stirred(module: nn.Module, scale: float = 0.3) -> nn.Module:
    """Every parameter away from its first value, so that zero-initialized ones hide nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            if p.is_floating_point():
                p.add_(scale * torch.randn(p.shape, generator=generator))
    return module


def tokens(grid: tuple[int, ...], batch: int = 2, dim: int = DIM, seed: int = 0) -> Tensor:
    return torch.randn(batch, *grid, dim, generator=torch.Generator().manual_seed(seed))
