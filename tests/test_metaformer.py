"""PoolFormer: the pooling mixer's properties, the open slot of its frame, and its names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.blocks.block import PreNorm
from anyformer.core.errors import AnyformerError, FitError, OptionError, UnknownName
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.lab.profile.operations import operations
from anyformer.layers.pooling.mixing import Pooling

OPTIONS = {"num_classes": 10, "in_channels": 1}


@pytest.mark.parametrize("grid", [(9,), (5, 7), (2, 3, 4), (1, 1)])
def test_a_constant_map_gives_zero_up_to_its_border(grid: tuple[int, ...]):
    assert Pooling()(torch.full((2, *grid, 3), 0.5)).abs().max() == 0  # 0.5: every sum and mean is exact
    assert Pooling()(torch.full((2, *grid, 3), 0.7)).abs().max() < 2e-7


@pytest.mark.parametrize("grid", [(9,), (5, 6), (2, 3, 5)])
def test_pooling_is_the_mean_of_the_neighbours_that_exist(grid: tuple[int, ...]):
    x = torch.randn(1, *grid, 2)
    y = Pooling(size=3)(x)
    for place in torch.cartesian_prod(*(torch.arange(g) for g in grid)).view(-1, len(grid)).tolist():
        box = (0, *(slice(max(p - 1, 0), p + 2) for p in place))
        mean = x[box].flatten(0, -2).mean(0)
        torch.testing.assert_close(y[(0, *place)], mean - x[(0, *place)], rtol=1e-5, atol=1e-6)


def test_padding_is_left_out_of_the_mean():
    x = torch.randn(1, 6, 4, 3)
    valid = torch.zeros(1, 6, 4, dtype=torch.bool)
    valid[:, :4] = True
    y = Pooling()(x, Segments.from_mask(valid))
    torch.testing.assert_close(y[:, :4], Pooling()(x[:, :4]), rtol=1e-5, atol=1e-6)


def test_pooling_costs_linearly_and_has_no_parameters():
    pooling = Pooling()
    assert not list(pooling.parameters())
    small, large = (operations(pooling, torch.randn(1, s, s, 4)).total for s in (16, 32))
    assert large == 4 * small > 0


def test_an_even_window_is_refused():
    with pytest.raises(OptionError, match=r"odd.*given 2"):
        Pooling(size=2)


@pytest.mark.parametrize("mixer", ["identity", "random", "depthwise", "separable", "token_mlp", "spatial_gating"])
def test_the_frame_takes_any_mixer(mixer: str):
    model = create_model("poolformer_micro", mixer=mixer, image_size=8, **OPTIONS).eval()
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_a_mixer_that_changes_the_shape_raises():
    class Halved(TokenMixer):
        def forward(self, x, segments=None):
            return x[..., : x.shape[-1] // 2]

    class Fewer(TokenMixer):
        def forward(self, x, segments=None):
            return x[:, :1]

    for mixer in (Halved(), Fewer()):
        block = PreNorm(8, mixer=mixer)
        with pytest.raises(AnyformerError, match=r"(?i)mixer.*shape"):
            block(torch.randn(2, 4, 4, 8))


def test_what_is_no_mixer_is_refused_by_kind_and_by_name():
    with pytest.raises(FitError, match="channel mixer"):
        create_model("poolformer_micro", mixer="mlp")
    with pytest.raises(UnknownName, match="pooling"):
        create_model("poolformer_micro", mixer="poolin")


def test_any_image_size_channels_features_and_no_head():
    model = create_model("poolformer_micro", in_channels=4, num_classes=0).eval()
    images = torch.randn(2, 4, 13, 10)
    assert model(images).shape == (2, 64)
    assert [tuple(m.shape) for m in model.features(images)] == [(2, 32, 13, 10), (2, 64, 7, 5)]


def test_layer_scale_starts_where_published():
    with torch.device("meta"):
        scales = {name: create_model(name).built_from for name in ("poolformer_s24", "poolformer_m48")}
    assert scales["poolformer_s24"]["stages.0.block.residual.init"] == 1e-5
    assert scales["poolformer_m48"]["stages.0.block.residual.init"] == 1e-6


@pytest.mark.parametrize(
    ("source", "name", "parameters"),
    [
        ("timm", "poolformer_s24.sail_in1k", 21388968),
        ("timm", "poolformer_m48", 73473448),
        ("official", "poolformer_s36", 30862760),
        ("transformers", "sail/poolformer_m36", 56172520),
    ],
)
def test_names_of_every_source(source: str, name: str, parameters: int):
    with torch.device("meta"):
        model: nn.Module = create_model(f"{source}:{name}")
    assert sum(p.numel() for p in model.parameters()) == parameters
