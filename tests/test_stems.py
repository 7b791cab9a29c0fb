"""The stem of convolutions: widths, shapes, starting values, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.layers.embedding.conv_stem import ConvStem
from anyformer.layers.embedding.pooled_stem import PooledStem


def test_widths_are_shares_of_the_last_or_channels():
    stem = ConvStem(16, widths=(0.25, 12), strides=(2, 1, 2))
    assert ConvStem(16, widths=(1.0,)).convs[0].weight.shape[0] == 16
    assert [conv.weight.shape[0] for conv in stem.convs] == [4, 12, 16]
    assert stem(torch.randn(1, 3, 9, 8)).shape == (1, *stem.grid((9, 8)), 16) == (1, 3, 2, 16)


def test_equals_the_convolutions_written_out():
    stem = ConvStem(8, kernels=(5, 3), norm=None, out_norm=None, act=Spec("gelu"), out_act=Spec("relu"))
    first, second = stem.convs
    x = torch.randn(2, 3, 11, 7)
    y = nn.functional.gelu(nn.functional.conv2d(x, first.weight, first.bias, 2, 2))
    y = nn.functional.conv2d(y, second.weight, second.bias, 2, 1).relu()
    torch.testing.assert_close(stem(x), y.movedim(1, -1))


@pytest.mark.parametrize(("pool", "size", "grid"), [("max", (9, 8), (3, 2)), ("mean", (9, 8), (2, 2))])
def test_pooling_halves_the_grid(pool: str, size: tuple[int, int], grid: tuple[int, int]):
    stem = PooledStem(8, kernels=3, pool=pool)
    assert stem.grid(size) == grid
    assert stem(torch.randn(1, 3, *size)).shape == (1, *grid, 8)


def test_where_a_norm_follows_weights_start_by_their_outputs():
    torch.manual_seed(0)
    stem = ConvStem(256, widths=(64,), out_norm=None)
    normed, plain = (conv.weight.std().item() for conv in stem.convs)
    assert normed == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.2)  # the cut normal is a little narrower
    assert plain == pytest.approx(0.02, rel=0.2)


def test_a_stem_needs_a_stride_for_each_width():
    with pytest.raises(OptionError, match="a width for each but the last; given widths"):
        ConvStem(8, widths=(4, 8), strides=(2,))
    with pytest.raises(OptionError, match="a stride of 1 or more"):
        ConvStem(8, strides=(2, 0))


def test_an_image_that_is_too_small_says_so():
    stem = build(Spec("conv_stem", kernels=(7, 3), paddings=(0, 0)), "embed", dim=8)
    with pytest.raises(SizeError, match="too small"):
        stem(torch.randn(1, 3, 4, 4))
