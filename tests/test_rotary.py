"""Rotations: the equation, and the same turns for positions that are given, cut out of all, or not given at all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.spec import Spec

LAYOUTS = ["halves", "interleaved"]


def by_hand(x: Tensor, positions: Tensor, layout: str, base: float = 10000.0) -> Tensor:
    """Pairs of channels as complex numbers, turned."""
    half = x.shape[-1] // 2
    angles = positions[..., None] * base ** (-torch.arange(half, dtype=x.dtype) / half)
    pairs = (x[..., :half], x[..., half:]) if layout == "halves" else (x[..., ::2], x[..., 1::2])
    turned = torch.complex(*pairs) * torch.polar(torch.ones_like(angles), angles)
    parts = [turned.real, turned.imag]
    return torch.cat(parts, -1) if layout == "halves" else torch.stack(parts, -1).flatten(-2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inference", [False, True])
def test_pairs_turn_by_position_times_frequency(layout: str, inference: bool):
    torch.manual_seed(0)
    rotation = build(Spec("rotary", layout=layout), "rotation", head_dim=8)
    x = torch.randn(2, 3, 70, 8)
    with torch.inference_mode(inference):
        torch.testing.assert_close(rotation(x), by_hand(x, torch.arange(70.0), layout), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["rotary", "rotary_by_parts", "retention_rotary"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_a_slice_of_all_positions_is_those_positions(name: str, layout: str, fraction: float):
    torch.manual_seed(0)
    rotation = build(Spec(name, layout=layout, fraction=fraction), "rotation", head_dim=8)
    x = torch.randn(1, 2, 5, 8)
    given = rotation(x, torch.arange(130, 135)[None])
    with torch.inference_mode():
        cut = rotation(x, slice(130, 135))
    torch.testing.assert_close(cut.clone(), given, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rotation(x, slice(130, 135)), given, atol=0, rtol=0)


def test_tables_made_in_inference_serve_training_and_other_types():
    rotation = build(Spec("rotary", base=777.0), "rotation", head_dim=8)
    x = torch.randn(1, 1, 4, 8)
    with torch.inference_mode():
        first = rotation(x).clone()
    with torch.no_grad():
        torch.testing.assert_close(rotation(x), first.clone(), atol=0, rtol=0)
    learned = x.clone().requires_grad_()
    rotation(learned).sum().backward()
    assert learned.grad is not None and rotation(x.double()).dtype == torch.float64
