"""Windows that tile a grid: every token in one window, and back in its place."""

from __future__ import annotations

import math

import pytest
import torch

from anyformer.core.errors import OptionError, SizeError
from anyformer.layers.attention.local.tiling import fit_window, plan, tile, untile
from anyformer.layers.attention.local.window import WindowAttention

GRIDS = [((12,), (4,)), ((8, 12), (4, 3)), ((7, 10), (4, 4)), ((4, 6, 5), (2, 3, 5))]


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_every_token_comes_back_to_its_place(grid, window, spread):
    for shift in ((0,) * len(grid), tuple(w // 2 for w in window)):
        tiling = plan(grid, window, shift, spread=spread)
        x = torch.arange(1.0, math.prod(grid) + 1).view(1, *grid, 1)
        tiles = tile(x, tiling)
        assert tiles.shape == (1, math.prod(tiling.tiles), math.prod(window), 1)
        assert sorted(tiles[tiles > 0].tolist()) == x.flatten().tolist()
        assert torch.equal(untile(tiles, tiling), x)


def test_a_spread_window_holds_every_so_many_tokens():
    tiling = plan((8, 8), (2, 4), (0, 0), spread=True)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    tiles = tile(torch.stack([rows, columns], -1)[None].float(), tiling)[0]
    assert tiling.tiles == (4, 2)
    for number, tokens in enumerate(tiles):
        row, column = divmod(number, 2)
        assert sorted(set(tokens[:, 0].tolist())) == [row, row + 4]
        assert sorted(set(tokens[:, 1].tolist())) == [column, column + 2, column + 4, column + 6]


def test_windows_may_have_a_side_for_each_axis():
    torch.manual_seed(0)
    part = WindowAttention(8, heads=2, window=(2, 8), distance=None, grid=(8, 8))
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    part(x)[0, 3, 4].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen[2:4].all() and not seen[:2].any() and not seen[4:].any()


def test_windows_that_do_not_fit_are_one_sentence():
    with pytest.raises(OptionError, match="each of 2 axes"):
        fit_window((2, 2, 2), (8, 8), cap=False, part="window")
    with pytest.raises(SizeError, match="a window of 2x16 is larger than the map of 8x8"):
        fit_window((2, 16), (8, 8), cap=False, part="window")
    assert fit_window((2, 16), (8, 8), cap=True, part="window") == (2, 8)
