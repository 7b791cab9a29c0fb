"""DC-Swin: linear attention against its quadratic form, its cost, resolution, refused inputs."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.linear.shared import EPSILON, SharedChannelAttention, SharedSpatialAttention
from anyformer.layers.convolution.depthwise import DepthwiseConv


def test_spatial_attention_is_its_quadratic_form():
    torch.manual_seed(0)
    mixer = SharedSpatialAttention(16, reduction=4)
    x = torch.randn(2, 5, 7, 16)
    flat = x.flatten(1, 2)
    q, k = (torch.nn.functional.normalize(layer(flat), dim=-1) for layer in (mixer.q, mixer.k))
    weight = 1 + q @ k.transpose(1, 2)
    assert bool((weight >= 0).all())
    total = weight.sum(-1, keepdim=True) + EPSILON * q.sum(-1, keepdim=True)
    expected = (weight @ mixer.v(flat) / total).view_as(x)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-5, atol=1e-5)


def test_channel_attention_is_its_quadratic_form():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, 6)
    values = x.flatten(1, 2)  # (b, n, c)
    u = values / values.norm(dim=-1, keepdim=True)
    # Every pair of positions: what channel c of position j gives to position i.
    pairs = torch.einsum("bjc,bjd,bid->bijc", values, u, u).sum(2) + values.sum(-1, keepdim=True)
    weight = values.shape[1] + torch.einsum("bjc,bjd->bc", u, u + EPSILON / u.shape[-1])[:, None]
    torch.testing.assert_close(SharedChannelAttention()(x), (pairs / weight).view_as(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixer", [SharedSpatialAttention(16), SharedChannelAttention()])
def test_cost_is_linear_in_positions(mixer):
    one, sixteen = (count_operations(mixer, torch.randn(1, side, side, 16)) for side in (32, 128))
    assert sixteen == pytest.approx(16 * one, rel=0.01)


def test_padding_counts_neither_in_the_sums_nor_in_their_number():
    torch.manual_seed(0)
    valid = torch.zeros(1, 4, 6, dtype=torch.bool)
    valid[:, :, :4] = True
    x = torch.randn(1, 4, 6, 8)
    for mixer in (SharedSpatialAttention(8, reduction=2), SharedChannelAttention()):
        y = mixer(x, Segments.from_mask(valid))
        torch.testing.assert_close(y[:, :, :4], mixer(x[:, :, :4]), rtol=1e-5, atol=1e-5)


def test_gaps_of_a_filter_are_as_wide_as_the_dilation():
    conv = DepthwiseConv(1, kernel=3, dilation=2, std=1.0)
    x = torch.zeros(1, 9, 9, 1)
    x[0, 4, 4] = 1
    with torch.no_grad():
        hit = (conv(x) - conv(torch.zeros_like(x)))[0, ..., 0].nonzero().tolist()
    assert hit == [[y, z] for y in (2, 4, 6) for z in (2, 4, 6)]
    with pytest.raises(OptionError, match="dilation is 1 or more; given 0"):
        DepthwiseConv(1, dilation=0)


def test_scores_come_at_the_resolution_of_the_input():
    model = create_model("dcswin_micro").eval()
    assert model(torch.randn(1, 3, 48, 32)).shape == (1, 3, 48, 32)
    assert [tuple(m.shape[1:]) for m in model.features(torch.randn(1, 3, 48, 32))] == [
        (16, 24, 16),
        (32, 12, 8),
        (64, 6, 4),
        (128, 3, 2),
    ]


def test_what_does_not_fit_raises():
    with torch.device("meta"):
        model = create_model("dcswin_tiny")
        with pytest.raises(ValueError, match=r"multiples of 32.*given 240x224") as caught:
            model(torch.randn(1, 3, 240, 224))
    assert isinstance(caught.value, SizeError)
    with pytest.raises(ValueError, match="dcfam joins four maps; this backbone gives 1"):
        create_model("dcswin_micro", backbone="vit_micro")
    with pytest.raises(OptionError, match="between 1 and the 4 channels; given 8"):
        SharedSpatialAttention(4)


def test_the_refinements_start_as_nothing():
    model = create_model("dcswin_micro").eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        for refined in (model.head.spatial, model.head.channel):
            refined.gamma.fill_(1.0)
        assert (model(images) - before).abs().max() > 1e-4


def test_the_last_stage_shifts_though_one_window_covers_it():
    model = create_model("dcswin_tiny", image_size=224).eval()
    with torch.no_grad():
        mixer = model.backbone.stages[-1].blocks[1].mixer
        x = torch.zeros(1, 7, 7, 768)
        y = mixer(x)
        x[0, 0, 0] = torch.randn(768)
        moved = (mixer(x) - y).abs().sum(-1)[0] > 1e-6
    # The corner's region of the cut window is 3 by 3; the rest of the map does not see it.
    assert moved[:3, :3].all() and moved.sum() == 9


@pytest.mark.parametrize(("name", "parameters"), [("tiny", 45631580), ("small", 66949484), ("base", 118929210)])
def test_names_of_the_authors(name: str, parameters: int):
    with torch.device("meta"):
        model = create_model(f"official:dcswin_{name}")
    assert model.num_parameters() == parameters
